"""DeployPolicy: its schema, what it matches, and the decision. Pure.

``parse.parse_policy`` makes a policy, ``material`` says what must be gathered for it,
``decide.decide`` answers.
"""
