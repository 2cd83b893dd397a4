"""Names, addresses and ports that the stacks share with what runs in them."""

TAG = "clickstream:deployment"
DEPLOYMENT = "clickstream"

INFRASTRUCTURE_STACK = "InfrastructureStack"
LAMBDA_STACK = "ClickstreamLambdaStack"

VPC_CIDR = "10.20.0.0/16"
HOST_PRIVATE_IP = "10.20.0.10"

AIRFLOW_PORT = 8080
GRAFANA_PORT = 3000
KAFKA_PORT = 9094
MSK_PORT = 9096
POSTGRES_PORT = 5432
HTTPS_PORT = 443

GENERATOR = "clickstream-generator"
GENERATOR_FAILURES = "clickstream-generator-failures"

STORAGE_URL_PARAMETER = "/clickstream/storage-url"
KAFKA_CA_PARAMETER = "/clickstream/kafka-ca"
SOURCE_PARAMETER = "/clickstream/source"
HOST_ENVIRONMENT_PARAMETER = "/clickstream/host-environment"
PARAMETERS = "/clickstream/*"

CONNECTIONS = "clickstream/airflow/connections/*"
ALERTING = "clickstream/alerting"
DATABASE_MASTER = "clickstream/database/master"


def data_bucket(account: str, region: str) -> str:
    """The bucket of all zones; named, because the host's rights are given before the bucket is made."""
    return f"clickstream-data-{account}-{region}"


def assets_bucket(account: str, region: str) -> str:
    """The bucket that deployments upload the Lambda's bundle and the host's source to."""
    return f"clickstream-assets-{account}-{region}"
