"""The jars with which Spark reads and writes S3: `python -m infra.bootstrap.s3a <folder>`.

hadoop-aws names a bundle of all of AWS's clients, 686 MB; the S3 client alone, with what it needs, has 18 MB.
"""

import argparse
from pathlib import Path

from infra.bootstrap import ivy

HADOOP = "3.5.0"
AWS_SDK = "2.35.4"
ACCELERATOR = "1.3.1"
VERSION = f"{HADOOP}-{AWS_SDK}"
MODULE = f"""\
<ivy-module version="2.0">
  <info organisation="clickstream" module="s3a"/>
  <configurations><conf name="jars"/></configurations>
  <dependencies>
    <dependency org="org.apache.hadoop" name="hadoop-aws" rev="{HADOOP}" conf="jars->default" transitive="false"/>
    <dependency org="software.amazon.awssdk" name="s3" rev="{AWS_SDK}" conf="jars->default"/>
    <dependency org="software.amazon.awssdk" name="s3-transfer-manager" rev="{AWS_SDK}" conf="jars->default"/>
    <dependency org="software.amazon.awssdk" name="sts" rev="{AWS_SDK}" conf="jars->default"/>
    <dependency org="software.amazon.s3.analyticsaccelerator" name="analyticsaccelerator-s3" rev="{ACCELERATOR}"
                conf="jars->default" transitive="false"/>
    <exclude org="org.slf4j"/>
  </dependencies>
</ivy-module>
"""


def main() -> None:
    """Bring the jars into the folder that the command names, made if need be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    ivy.retrieve(MODULE, folder)


if __name__ == "__main__":
    main()
