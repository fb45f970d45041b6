//! Ways out of a granted directory.

use sandhog_sdk::{Context, OrFail, Result, handler};
use serde::Deserialize;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

/// How often to race.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Race {
    /// Rounds.
    pub rounds: u32,
}

/// Opens each path, as it is, and returns what is there or why it couldn't.
#[handler(kind = "rogue.open")]
pub fn open(paths: Vec<String>) -> Result<Vec<String>> {
    let dir = granted()?;
    Ok(paths.iter().map(|path| read(&dir, path).unwrap_or_else(name_of)).collect())
}

/// Makes links to the outside and tries to use them; then tries to write and make things outside.
#[handler(kind = "rogue.make")]
pub fn make(ctx: &Context) -> Result<Vec<String>> {
    let dir = granted()?;
    let mut found = Vec::new();
    // Names of its own: others of its kind are at work in the same directory.
    let own = |name: &str| format!("{name}-{}", ctx.job_id());
    for (target, link) in [("/etc/passwd", "absolute"), ("../secret.txt", "up"), ("..", "parent")] {
        let link = own(link);
        let opened = dir.symlink_at(target, &link).and_then(|()| read(&dir, &link));
        found.push(opened.unwrap_or_else(name_of));
    }
    found.push(read(&dir, &format!("{}/secret.txt", own("parent"))).unwrap_or_else(name_of));
    let done = |result: Result<(), ErrorCode>| result.map_or_else(name_of, |()| "done".to_owned());
    found.push(done(dir.link_at(PathFlags::empty(), "../secret.txt", &dir, &own("hard"))));
    found.push(done(dir.rename_at("../secret.txt", &dir, &own("moved"))));
    found.push(done(dir.rename_at("inside.txt", &dir, "../escaped.txt")));
    found.push(done(dir.create_directory_at("../escaped")));
    found.push(done(dir.unlink_file_at("../secret.txt")));
    let create = OpenFlags::CREATE;
    let escaped = dir.open_at(PathFlags::SYMLINK_FOLLOW, "../escaped.txt", create, DescriptorFlags::WRITE);
    found.push(done(escaped.map(drop)));
    Ok(found)
}

/// Puts a link to the outside where a directory was, and back, while it opens a file there. Several of these at once
/// race each other.
#[handler(kind = "rogue.race")]
pub fn race(input: Race) -> Result<Vec<String>> {
    let dir = granted()?;
    // Whoever is first makes them.
    let _ = dir.create_directory_at("room");
    let _ = dir.symlink_at("..", "window");
    let mut found = Vec::new();
    for _ in 0..input.rounds {
        let _ = dir.rename_at("room", &dir, "aside");
        let _ = dir.rename_at("window", &dir, "room");
        if let Ok(text) = read(&dir, "room/secret.txt") {
            found.push(text);
        }
        let _ = dir.rename_at("room", &dir, "window");
        if let Ok(text) = read(&dir, "room/secret.txt") {
            found.push(text);
        }
        let _ = dir.rename_at("aside", &dir, "room");
    }
    Ok(found)
}

/// Opens a file again and again, keeps each, and returns how often it could before it was told no.
#[handler(kind = "rogue.fill")]
pub fn fill() -> Result<String> {
    let dir = granted()?;
    let mut held = Vec::new();
    loop {
        match dir.open_at(PathFlags::empty(), "inside.txt", OpenFlags::empty(), DescriptorFlags::READ) {
            Ok(file) => held.push(file),
            Err(error) => return Ok(name_of(error)),
        }
    }
}

fn granted() -> Result<Descriptor> {
    let (dir, _) = get_directories().pop().or_permanent("no directory is granted")?;
    Ok(dir)
}

fn read(dir: &Descriptor, path: &str) -> Result<String, ErrorCode> {
    let file = dir.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let (bytes, _) = file.read(64, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn name_of(error: ErrorCode) -> String {
    error.name().to_owned()
}
