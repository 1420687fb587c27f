"""Make code of other languages from a copy of `protos/` alone, and compile that of Go and Java.

So a team whose clients aren't Python finds that the protos suit its generators: nothing else of this
repository is needed, and nothing but protoc's own types is imported. Every generator of protoc is run, that
of Go, and `buf generate` with protos/buf.gen.yaml. Where there is no `go`, or no `javac` and `mvn`, that
language is left out, and the last line says so. All that is fetched stays below `.cache/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "languages"
LOCK = ROOT / "requirements" / "languages.txt"
BUILTIN = ("cpp", "csharp", "java", "kotlin", "objc", "php", "pyi", "python", "ruby")
GO_PLUGINS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1",
)
GO_MODULE = "github.com/sessiond/sessiond/gen/go"
GO_RUNTIMES = ("google.golang.org/protobuf@v1.36.10", "google.golang.org/grpc@v1.76.0")
JAVA_RUNTIME = "com.google.protobuf:protobuf-java:4.36.2"


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    """Run a command; raises CalledProcessError."""
    subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, check=True)


def install_protoc() -> Path:
    """The folder that holds protoc."""
    made = CACHE / "venv"
    if not (made / "installed").exists() or (made / "installed").read_bytes() != LOCK.read_bytes():
        venv.create(made, clear=True, with_pip=True)
        pip = (made / "bin" / "python", "-m", "pip", "install", "--quiet")
        run(*pip, "--require-hashes", "--no-deps", "-r", LOCK, cwd=ROOT)
        shutil.copy(LOCK, made / "installed")
    return made / "bin"


class Languages:
    """The generators at work in a folder of their own, which holds a copy of the protos."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._protos = folder / "protos"
        shutil.copytree(ROOT / "protos", self._protos, ignore=shutil.ignore_patterns("gen"))
        self._files = [str(p.relative_to(self._protos)) for p in self._protos.rglob("*.proto")]
        tools = (install_protoc(), CACHE / "go" / "bin", Path(sysconfig.get_path("scripts")))
        self._path = os.pathsep.join([*map(str, tools), os.environ.get("PATH", "")])
        self._go = {
            "GOPATH": str(CACHE / "go"),
            "GOCACHE": str(CACHE / "go-build"),
            "GOFLAGS": "-modcacherw",
            "PATH": self._path,
        }

    def protoc(self, *generators: str) -> None:
        """Run generators of protoc, each into a folder of its name."""
        for name in generators:
            out = self._folder / name
            out.mkdir()
            run("protoc", f"--{name}_out={out}", *self._files, cwd=self._protos, PATH=self._path)
            if not any(path.is_file() for path in out.rglob("*")):
                raise SystemExit(f"the generator {name} made nothing")

    def go(self) -> None:
        """Make the code of Go, with its stubs, and compile it."""
        for plugin in GO_PLUGINS:
            run("go", "install", plugin, cwd=self._folder, **self._go)
        out = self._folder / "go"
        out.mkdir()
        options = [f"--{name}_opt=module={GO_MODULE}" for name in ("go", "go-grpc")]
        outs = [f"--{name}_out={out}" for name in ("go", "go-grpc")]
        run("protoc", *outs, *options, *self._files, cwd=self._protos, PATH=self._path)
        run("go", "mod", "init", GO_MODULE, cwd=out, **self._go)
        run("go", "get", *GO_RUNTIMES, cwd=out, **self._go)
        run("go", "mod", "tidy", cwd=out, **self._go)
        run("go", "vet", "./...", cwd=out, **self._go)

    def java(self) -> None:
        """Compile the code of Java."""
        jars, classes = CACHE / "jars", self._folder / "classes"
        classes.mkdir()
        if not list(jars.glob("*.jar")):
            copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
            where = f"-Dartifact={JAVA_RUNTIME}", f"-DoutputDirectory={jars}"
            local = f"-Dmaven.repo.local={CACHE / 'm2'}"
            run("mvn", "-q", "-B", local, copy, *where, cwd=self._folder)
        sources = [str(path) for path in (self._folder / "java").rglob("*.java")]
        path = os.pathsep.join(map(str, jars.glob("*.jar")))
        options = ["-nowarn", "-d", str(classes), "-cp", path]
        arguments = self._folder / "javac.txt"
        arguments.write_text("\n".join([*options, *sources]))
        run("javac", f"@{arguments}", cwd=self._folder)

    def buf(self) -> None:
        """Generate with the committed template."""
        run("buf", "generate", cwd=self._protos, PATH=self._path)
        made = {path.name for path in (self._protos / "gen").iterdir()}
        if not {"go", "java", "python", "csharp"} <= made:
            raise SystemExit(f"buf generate made only {sorted(made)}")


def main() -> int:
    """Make everything that can be made here."""
    left_out = []
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sessiond-languages-") as folder:
        languages = Languages(Path(folder))
        languages.protoc(*BUILTIN)
        if shutil.which("go"):
            languages.go()
            languages.buf()
        else:
            left_out.append("Go and buf generate (there is no go)")
        if shutil.which("javac") and shutil.which("mvn"):
            languages.java()
        else:
            left_out.append("compiling Java (there is no javac or mvn)")
    print("languages:", ", ".join([*BUILTIN, *(f"not {it}" for it in left_out)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
