//! Writes the seeds of a target into a folder, a file each, for a fuzzer to start from:
//! `fuzz-seeds config fuzz/corpus/config`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

use sandhog_fuzz::TARGETS;

fn main() -> io::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let (name, folder) = (arguments.next(), arguments.next().map(PathBuf::from));
    let target = TARGETS.iter().find(|target| Some(target.name) == name.as_deref());
    let (Some(target), Some(folder)) = (target, folder) else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: fuzz-seeds {} FOLDER", names.join("|"));
        return Ok(ExitCode::FAILURE);
    };
    fs::create_dir_all(&folder)?;
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(ExitCode::SUCCESS)
}
