"""From the CDK app to stacks on AWS and back: what the DAGs and `python -m clickstream.provisioning` share."""
