//! What is uploaded: the program's file or folder, and its zip.

use std::{fs, io::Write, path::Path};

use anyhow::Context;
use flate2::{Compression, write::DeflateEncoder};

use super::{Measured, figures::mebibytes};

/// What a zip has beside a file's bytes and twice its name, in bytes: local header and central header.
const ZIP_HEADERS: usize = 30 + 46;

/// The record at the end of a zip, in bytes.
const ZIP_END: usize = 22;

pub(super) fn measure(measured: &mut Measured) -> anyhow::Result<()> {
    let Some(package) = measured.program.package() else { return Ok(()) };
    let (mut plain, mut zipped) = (0, ZIP_END);
    if package.is_dir() {
        add_folder(package, "", &mut plain, &mut zipped)?;
    } else {
        // Lambda starts the file of this name.
        add_file(package, "bootstrap", &mut plain, &mut zipped)?;
    }
    let kibibytes = |bytes: usize| u64::try_from(bytes / 1024);
    measured.figures.unzipped_mib = Some(mebibytes(kibibytes(plain)?));
    measured.figures.zip_mib = Some(mebibytes(kibibytes(zipped)?));
    Ok(())
}

fn add_folder(folder: &Path, prefix: &str, plain: &mut usize, zipped: &mut usize) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a package's file names are UTF-8")?;
        let kind = entry.file_type()?;
        // Neither is deployed: interpreters make the one, and installers the other, again.
        if name == "__pycache__" || name == ".bin" {
            continue;
        }
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            add_folder(&entry.path(), &format!("{path}/"), plain, zipped)?;
        } else if kind.is_file() {
            add_file(&entry.path(), &path, plain, zipped)?;
        }
    }
    Ok(())
}

fn add_file(file: &Path, name: &str, plain: &mut usize, zipped: &mut usize) -> anyhow::Result<()> {
    let bytes = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&bytes)?;
    *plain += bytes.len();
    *zipped += deflate.finish()?.len() + ZIP_HEADERS + 2 * name.len();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Program;

    #[test]
    fn a_folder_is_measured_with_its_subfolders_but_without_what_is_not_deployed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![b'x'; bytes]).unwrap();
        };
        write("function.py", 1024 * 1024);
        write("library/code.py", 1024 * 1024);
        write("library/__pycache__/code.pyc", 1024 * 1024);
        let program = Program::script("Python".into(), "python3".into(), "function.py", folder.path().into());
        let mut measured = Measured::new(program);
        measure(&mut measured).unwrap();
        assert_eq!(measured.figures.unzipped_mib, Some(2.0));
        assert!(measured.figures.zip_mib.unwrap() < 0.1);
    }
}
