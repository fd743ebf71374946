"""Makes a release's files for one architecture of a built program: release/build calls it.

    close-order-VERSION-ARCHITECTURE.zip       the program, as Lambda takes it; the same bytes for the same program
    close-order-VERSION-ARCHITECTURE.yaml      the stack, with that zip and that architecture
    close-order-VERSION-ARCHITECTURE.cdx.json  what the program is made of (CycloneDX)
"""

import argparse
import pathlib
import re
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def write_zip(path, files):
    """A zip of these files, {name: (bytes, mode)}, that depends on nothing else: no times, no owner, no umask."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, whose modes Lambda reads
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compresslevel=9)


def replaced(pattern, by, text):
    """The text with the one place that matches; a template that has changed there fails here, not in an account."""
    text, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"release/package.py: {pattern!r} is in template.yaml {count} times, not once")
    return text


def release_template(text, name, version, architecture):
    """The template without the choice of an architecture: `name` is the program's zip beside it."""
    text = replaced(r"^( +CodeUri:) \.$", rf"\1 {name}", text)
    text = replaced(r"^( +Architectures:) \[!Ref Architecture\]$", rf"\1 [{architecture}]", text)
    text = replaced(r"^  Architecture:\n(?:    .*\n)+\n", "", text)  # the parameter
    text = replaced(r"(Parameters: \[(?:.*, )?)Architecture, ", r"\1", text)  # and its place in the console
    return f"# close-order {version} for {architecture}. The program is in {name}, beside this file.\n{text}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", required=True, help="v and a version, as the tag has it")
    parser.add_argument("--architecture", required=True, choices=["arm64", "x86_64"])
    parser.add_argument("--program", required=True, type=pathlib.Path)
    parser.add_argument("--sbom", required=True, type=pathlib.Path)
    parser.add_argument("--to", required=True, type=pathlib.Path, help="the folder for the files")
    args = parser.parse_args()

    base = f"close-order-{args.version}-{args.architecture}"
    args.to.mkdir(parents=True, exist_ok=True)
    licences = {name: ((ROOT / name).read_bytes(), 0o644) for name in ("LICENSE-APACHE", "LICENSE-MIT")}
    write_zip(args.to / f"{base}.zip", {"bootstrap": (args.program.read_bytes(), 0o755)} | licences)

    template = release_template(
        (ROOT / "template.yaml").read_text(encoding="utf-8"), f"{base}.zip", args.version, args.architecture
    )
    (args.to / f"{base}.yaml").write_text(template, encoding="utf-8")

    (args.to / f"{base}.cdx.json").write_bytes(args.sbom.read_bytes())


if __name__ == "__main__":
    main()
