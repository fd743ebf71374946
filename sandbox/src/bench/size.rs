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
    let package = measured.program.package();
    let mut zipped = ZIP_END;
    if package.is_dir() {
        add_folder(package, "", &mut zipped)?;
    } else {
        // Lambda starts the file of this name.
        add_file(package, "bootstrap", &mut zipped)?;
    }
    measured.figures.zip_mib = Some(mebibytes(u64::try_from(zipped / 1024)?));
    Ok(())
}

fn add_folder(folder: &Path, prefix: &str, zipped: &mut usize) -> anyhow::Result<()> {
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
            add_folder(&entry.path(), &format!("{path}/"), zipped)?;
        } else if kind.is_file() {
            add_file(&entry.path(), &path, zipped)?;
        }
    }
    Ok(())
}

fn add_file(file: &Path, name: &str, zipped: &mut usize) -> anyhow::Result<()> {
    let bytes = fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&bytes)?;
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
        // What can't be compressed.
        let mut random = fastrand::Rng::with_seed(1);
        for name in ["function.py", "library/code.py", "library/__pycache__/code.pyc"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, std::iter::repeat_with(|| random.u8(..)).take(1024 * 1024).collect::<Vec<_>>()).unwrap();
        }
        let program = Program::script("Python", "python3".into(), "function.py", folder.path().into());
        let mut measured = Measured::new(program);
        measure(&mut measured).unwrap();
        let zip = measured.figures.zip_mib.unwrap();
        assert!((2.0..2.1).contains(&zip), "{zip}");
    }
}
