"""DeployPolicy: its schema, what it matches, and the decision. Pure."""
