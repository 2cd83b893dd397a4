"""Find a Java that can run Kafka and Spark."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from infra.local.commands import run
from infra.local.errors import StackError

MINIMUM_VERSION = 17
VECTOR_MODULE = "jdk.incubator.vector"
REMEDY = (
    f"Install a JDK of version {MINIMUM_VERSION} or later (Debian and Ubuntu: apt install openjdk-17-jdk-headless) "
    "and put it on PATH or set JAVA_HOME to its folder."
)


@dataclass(frozen=True)
class Java:
    """An installed Java.

    Attributes:
        home: Its folder, for JAVA_HOME.
        version: Its full version, like 17.0.15.
    """

    home: Path
    version: str

    @property
    def binary(self) -> Path:
        """The ``java`` program."""
        return self.home / "bin" / "java"


def find_java() -> Java:
    """Find Java by JAVA_HOME, else on PATH, and check that Kafka and Spark can use it.

    Raises:
        StackError: There is none, it is too old, or it lacks the vector module that Spark 4 needs.
    """
    home = os.environ.get("JAVA_HOME")
    binary = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if binary is None or not os.access(binary, os.X_OK):
        where = f"JAVA_HOME is {home}, but {binary} is no program" if home else "no java is on PATH"
        raise StackError(f"Java is missing: {where}.", remedy=REMEDY)
    shown = run([binary, "-XshowSettings:properties", "-version"], purpose="ask Java for its version", remedy=REMEDY)
    properties = dict(re.findall(r"^\s+(java\.[\w.]+) = (.*)$", shown, flags=re.MULTILINE))
    specification = properties.get("java.specification.version", "")
    if not specification.isdigit() or int(specification) < MINIMUM_VERSION:
        raise StackError(
            f"Java {properties.get('java.version', 'of an unknown version')} at {binary} is too old: "
            f"Kafka and Spark need {MINIMUM_VERSION} or later.",
            remedy=REMEDY,
        )
    java = Java(home=Path(properties["java.home"]), version=properties["java.version"])
    modules = run([java.binary, "--list-modules"], purpose="list the modules of Java", remedy=REMEDY)
    if VECTOR_MODULE not in modules:
        raise StackError(
            f"Java {java.version} at {java.home} has no module {VECTOR_MODULE}, which Spark 4 needs.",
            remedy=REMEDY,
        )
    return java
