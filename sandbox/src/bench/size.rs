//! What is uploaded: the program's file, and its zip.

use std::{fs, io::Write};

use flate2::{Compression, write::DeflateEncoder};

use super::{Measured, figures::mebibytes};

/// What a zip of one file called `bootstrap` has beside the file, in bytes: local header, central header, end record.
const ZIP_HEADERS: usize = 30 + 46 + 22 + 2 * "bootstrap".len();

pub(super) fn measure(measured: &mut Measured) -> anyhow::Result<()> {
    // A command that is looked up, such as an interpreter, is not what is uploaded.
    let Some(program) = measured.program.file().filter(|file| file.is_file()) else { return Ok(()) };
    let binary = fs::read(program)?;
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&binary)?;
    let zip = deflate.finish()?.len() + ZIP_HEADERS;
    measured.figures.binary_mib = Some(mebibytes(u64::try_from(binary.len() / 1024)?));
    measured.figures.zip_mib = Some(mebibytes(u64::try_from(zip / 1024)?));
    Ok(())
}
