//! The manual and the completions: every command is in them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::site::Site;

/// Each command that does something, as its words after `sandhog`. A test of the library holds the page to the code.
fn commands() -> Vec<Vec<&'static str>> {
    let page = include_str!("../../../../docs/commands.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### `sandhog "));
    let is_word = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    headings.map(|line| line.trim_end_matches('`').split(' ').take_while(is_word).collect()).collect()
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let site = Site::empty();
    let said = site.run(&["man", "share/man1"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let there: BTreeSet<String> = fs::read_dir(site.path("share/man1"))
        .expect("the folder was made")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(said.out.lines().map(str::to_owned).collect::<BTreeSet<_>>(), there);
    for words in commands() {
        let command = words.join(" ");
        let file = format!("sandhog-{}.1", words.join("-"));
        let page = fs::read_to_string(site.path("share/man1").join(&file)).expect(&command);
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(page.contains(part), "{file} has {part}");
        }
        assert!(page.replace('\\', "").contains(&format!("sandhog {command}")), "{file} names {command}");
    }
    let overview = fs::read_to_string(site.path("share/man1/sandhog.1")).expect("a page");
    assert!(overview.replace('\\', "").contains("sandhog-enqueue(1)"), "{overview}");
    assert_eq!(site.json(&["man", "share/man1"])["files"].as_array().map(Vec::len), Some(there.len()));
}

#[test]
fn a_manual_that_cannot_be_written_is_an_error() {
    let site = Site::empty();
    site.write("taken", "");
    site.run(&["man", "taken"]).fails(1, &["can't write the manual to taken"]);
}

#[test]
fn shells_complete_every_command() {
    let site = Site::empty();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = site.run(&["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        for word in commands().concat() {
            assert!(said.out.contains(word), "{shell} completes {word}");
        }
        assert_eq!(site.json(&["completions", shell])["script"].as_str(), Some(said.out.as_str()));
        site.write(shell, &said.out);
    }
    let parsed = Command::new("bash").arg("-n").arg(site.path("bash")).output().expect("bash is there");
    assert!(parsed.status.success() && parsed.stderr.is_empty(), "{parsed:?}");
    assert_eq!(site.run(&["completions", "csh"]).code, 2);
}

#[test]
fn bash_completes_as_its_script_says() {
    let site = Site::empty();
    site.write("script", &site.run(&["completions", "bash"]).out);
    let completed = |words: &[&str]| {
        let text = format!(
            "source ./script; COMP_WORDS=({}); COMP_CWORD={}; _sandhog sandhog '{}' ''; echo \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
        );
        let output = Command::new("bash").args(["-c", &text]).current_dir(site.path("")).output();
        String::from_utf8(output.expect("bash is there").stdout).expect("text")
    };
    assert_eq!(completed(&["sandhog", "enq"]).trim(), "enqueue");
    assert_eq!(completed(&["sandhog", "job", "sh"]).trim(), "show");
    assert_eq!(completed(&["sandhog", "usage", "--ten"]).trim(), "--tenant");
}
