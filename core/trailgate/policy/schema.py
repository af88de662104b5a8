"""What a DeployPolicy may say: the structs that files and the cluster's CRD come from.

``trailgate.dev/v1alpha1``. ``parse`` reads policies by them, and ``crd`` writes the
CRD; descriptions are what ``kubectl explain`` prints. Unknown fields are refused.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field

from trailgate.model.decision import Mode
from trailgate.policy import syntax
from trailgate.policy.describe import items, text

API_VERSION = "trailgate.dev/v1alpha1"
KIND = "DeployPolicy"


class BasisAccepted(Enum):
    """Which change records count."""

    FORGE_API = "ForgeApi"
    ASSERTED = "Asserted"


class SelfAsserted(Enum):
    """Whether one key may sign both the build and its own review."""

    DENY = "Deny"
    ALLOW = "Allow"


class DeletePolicy(Enum):
    """What happens to a deletion by somebody who is not listed."""

    RECORD = "Record"
    DENY = "Deny"


class _Strict(Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """All parts of a spec: camelCase, no unknown field."""


class Signer(_Strict):
    """A key that is trusted for one statement."""

    name: Annotated[
        str,
        text(
            "A name for the key, unique in its list: what denials and records call it.",
            check=syntax.label,
            pattern=syntax.LABEL,
            most=63,
        ),
    ]
    key: Annotated[
        str,
        text(
            "The public key, PEM (SubjectPublicKeyInfo): P-256, P-384, Ed25519 or RSA. "
            "A cosign.pub is one.",
            check=syntax.key,
            quiet=True,
            pattern=r"^\s*-----BEGIN PUBLIC KEY-----",
            most=4096,
        ),
    ]


_Signers = Annotated[
    list[Signer],
    items(
        "The keys that may sign this statement. A statement by any other key does not count.",
        least=1,
        most=16,
        kind="map",
        key="name",
    ),
]


class Signature(_Strict):
    """The image itself must be signed (cosign sign, or simple signing)."""

    signers: _Signers


class Provenance(_Strict):
    """The image needs SLSA provenance v1 that names its source and builder."""

    signers: _Signers
    builders: Annotated[
        list[Annotated[str, text("One builder id.", check=syntax.plain, most=1024)]],
        items(
            "Builder ids that are accepted (runDetails.builder.id), exactly as signed. "
            "Empty: any builder that the signers speak for."
        ),
    ] = field(default_factory=list)


class _ChangeStatement(_Strict):
    """What review and deployment approval have in common: both read the change record."""

    signers: _Signers
    verifiers: Annotated[
        list[Annotated[str, text("One verifier id.", check=syntax.plain, most=1024)]],
        items(
            "Verifier ids (verifier.id of the change record) that these signers may speak for. "
            "Empty: any."
        ),
    ] = field(default_factory=list)
    basis: Annotated[
        BasisAccepted,
        Meta(
            description="Where the change record's facts must come from. ForgeApi: read from the "
            "forge's API by whoever signed. Asserted: also records that somebody typed."
        ),
    ] = BasisAccepted.FORGE_API
    self_asserted: Annotated[
        SelfAsserted,
        Meta(
            description="Whether a key that may also sign the build (signature or provenance) may "
            "sign the change record. Allow: it may, and every record says selfAsserted."
        ),
    ] = SelfAsserted.DENY


class Review(_ChangeStatement):
    """Every commit that is shipped was approved by somebody who did not write it."""

    approvals: Annotated[
        int,
        Meta(
            description="How many independent people must have approved each change.", ge=1, le=16
        ),
    ] = 1


class DeploymentApproval(_ChangeStatement, kw_only=True):
    """Somebody approved the deployment to an environment."""

    environment: Annotated[
        str,
        text("The environment's name, as the forge calls it.", check=syntax.plain, most=255),
    ]
    not_committer: Annotated[
        bool,
        Meta(description="Whether the approver must be none of those who wrote the change."),
    ] = True


class Tests(_Strict):
    """Tests ran on the commit that the provenance names, and none failed."""

    __test__ = False  # not a pytest class

    signers: _Signers
    max_age: (
        Annotated[
            str,
            text(
                "How old the test run may be when the change is admitted, such as 720h or 90m. "
                "Absent: any age.",
                check=syntax.duration,
                pattern=syntax.DURATION,
                most=32,
            ),
        ]
        | UnsetType
    ) = UNSET
    suites: Annotated[
        list[Annotated[str, text("One suite's name.", check=syntax.plain, most=255)]],
        items("Test suites that must have run, by name. Empty: any."),
    ] = field(default_factory=list)


class Source(_Strict):
    """Where the source of a rule's images lives."""

    repositories: Annotated[
        list[
            Annotated[
                str,
                text(
                    "https://host/path; * stands for characters inside one path segment, "
                    "** for one or more whole segments.",
                    check=syntax.repository_pattern,
                    pattern=r"^https://[^/*]+/.+$",
                    most=1024,
                ),
            ]
        ],
        items("Source repositories that these images may be built from.", least=1),
    ]
    refs: Annotated[
        list[
            Annotated[
                str,
                text(
                    "A full Git ref such as refs/heads/main or refs/tags/v*.",
                    check=syntax.ref_pattern,
                    pattern=r"^refs/.+$",
                    most=255,
                ),
            ]
        ],
        items("Git refs that may be built. Empty: any."),
    ] = field(default_factory=list)


class Rule(_Strict, kw_only=True):
    """What is asked of the images that its patterns name."""

    name: (
        Annotated[
            str,
            text(
                "A name for the rule, unique in the policy: what denials and records call it.",
                check=syntax.label,
                pattern=syntax.LABEL,
                most=63,
            ),
        ]
        | UnsetType
    ) = UNSET
    images: Annotated[
        list[
            Annotated[
                str,
                text(
                    "host/path without tag or digest; the host is literal. * stands for "
                    "characters inside one path segment, ** for one or more whole segments.",
                    check=syntax.image_pattern,
                    pattern=r"^[a-z0-9.:\[\]-]+/[a-z0-9._/*-]+$",
                    most=512,
                ),
            ]
        ],
        items(
            "Image repositories that the rule is for. The first rule whose patterns match an "
            "image decides on it.",
            least=1,
        ),
    ]
    source: Annotated[
        Source | UnsetType, Meta(description="The source these images are built from.")
    ] = UNSET
    signature: Annotated[
        Signature | UnsetType, Meta(description="Require a signature of the image.")
    ] = UNSET
    provenance: Annotated[
        Provenance | UnsetType,
        Meta(description="Require SLSA provenance v1, from one of source.repositories."),
    ] = UNSET
    review: Annotated[
        Review | UnsetType,
        Meta(
            description="Require independent review of every commit shipped, by a change record "
            "(SLSA VSA with https://trailgate.dev/change-record/v1)."
        ),
    ] = UNSET
    deployment_approval: Annotated[
        DeploymentApproval | UnsetType,
        Meta(description="Require an approval to deploy, by the change record."),
    ] = UNSET
    tests: Annotated[
        Tests | UnsetType,
        Meta(
            description="Require test results (in-toto test-result v0.1) of the provenance's "
            "commit. One failed result of that commit denies."
        ),
    ] = UNSET


class Callers(_Strict):
    """Who may make changes. Applies to root changes, not to what controllers do with them."""

    users: Annotated[
        list[Annotated[str, text("One user name.", check=syntax.user)]],
        items("User names, exactly. Service accounts belong under serviceAccounts."),
    ] = field(default_factory=list)
    groups: Annotated[
        list[Annotated[str, text("One group name.", check=syntax.plain)]],
        items("Group names, exactly."),
    ] = field(default_factory=list)
    service_accounts: Annotated[
        list[
            Annotated[
                str,
                text(
                    "namespace/name.",
                    check=syntax.service_account,
                    pattern=syntax.SERVICE_ACCOUNT,
                    most=317,
                ),
            ]
        ],
        items(
            "Service accounts as namespace/name. One matches only with a credential of its own: "
            "an impersonated service account never does."
        ),
    ] = field(default_factory=list)
    delete: Annotated[
        DeletePolicy,
        Meta(
            description="What happens to a deletion by anybody else. Record: it is recorded. "
            "Deny: it is denied."
        ),
    ] = DeletePolicy.RECORD


class ThirdParty(_Strict):
    """An image from outside that is let in by digest, on somebody's responsibility."""

    image: Annotated[
        str,
        text(
            "The repository, exactly: host/path without tag or digest.",
            check=syntax.repository,
            pattern=r"^[a-z0-9.:\[\]-]+/[a-z0-9._/-]+$",
            most=512,
        ),
    ]
    digests: Annotated[
        list[
            Annotated[
                str,
                text(
                    "sha256:<64 hex digits>.",
                    check=syntax.digest,
                    pattern=r"^sha256:[0-9a-f]{64}$",
                    most=71,
                ),
            ]
        ],
        items("The digests that are let in.", least=1, most=256),
    ]
    owner: Annotated[str, text("Who answers for it: a team or a person.", check=syntax.plain)]
    reason: Annotated[str, text("Why it is let in.", check=syntax.plain, most=1024)]
    expiry: Annotated[
        datetime,
        Meta(
            description="Until when (RFC 3339, with an offset). After it the image is denied.",
            tz=True,
        ),
    ]


class Spec(_Strict, kw_only=True):
    """What a policy demands of what runs in its namespaces, and of who changes it."""

    mode: Annotated[
        Mode,
        Meta(
            description="What a negative verdict does. Audit: it is recorded. Warn: the caller is "
            "warned too. Enforce: the request is denied."
        ),
    ] = Mode.AUDIT
    namespaces: Annotated[
        list[
            Annotated[
                str,
                text(
                    "A namespace's name; * stands for any characters, ? for one.",
                    check=syntax.namespace_pattern,
                    pattern=syntax.NAMESPACE,
                    most=63,
                ),
            ]
        ],
        items(
            "The namespaces that the policy covers, by name. Labels never decide.",
            least=1,
            most=256,
        ),
    ]
    callers: Annotated[
        Callers | UnsetType,
        Meta(description="Who may change workloads. Absent: whoever Kubernetes lets."),
    ] = UNSET
    rules: Annotated[
        list[Rule],
        items(
            "What is asked of which images, in order: the first rule whose patterns match an image "
            "decides on it. An image that no rule and no thirdParty entry covers is denied.",
            most=128,
            kind="atomic",
        ),
    ] = field(default_factory=list)
    third_party: Annotated[
        list[ThirdParty],
        items(
            "Images from outside that are let in by digest, without evidence.",
            most=256,
            kind="atomic",
        ),
    ] = field(default_factory=list)
