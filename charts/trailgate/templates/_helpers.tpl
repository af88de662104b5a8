{{/* Labels of everything. Names are fixed: one installation per cluster. */}}
{{- define "trailgate.labels" -}}
app.kubernetes.io/name: trailgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What selects a component's pods: never changes, or an upgrade would be refused. */}}
{{- define "trailgate.selector" -}}
app.kubernetes.io/name: trailgate
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* An image of ours, by digest: (dict "root" $ "image" .Values.webhook.image). */}}
{{- define "trailgate.image" -}}
{{- $image := .image -}}
{{ .root.Values.image.registry }}/{{ $image.name }}
{{- if or $image.tag (not $image.digest) }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The secret that the gate serves with. */}}
{{- define "trailgate.tlsSecret" -}}
{{- if eq .Values.certificates.mode "secret" }}{{ .Values.certificates.secretName }}{{ else }}trailgate-webhook-tls{{ end }}
{{- end }}

{{- define "trailgate.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Every pod: nobody special, on a file system that can't be written. */}}
{{- define "trailgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "trailgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod goes: (dict "values" .Values.webhook). */}}
{{- define "trailgate.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The operator's account and the gate's, as the API server calls them. */}}
{{- define "trailgate.user" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:trailgate-{{ .name }}
{{- end }}
