//! A laboratory for the length of a test, and what is read from the programs in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs this program as `fairway lab …`.
pub fn lab(arguments: &[&str]) -> Output {
    let executable = std::env::current_exe().unwrap();
    Command::new(executable).arg("lab").args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A topology file that is removed with its value.
pub struct TopologyFile(PathBuf);

impl TopologyFile {
    pub fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}.yaml"));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TopologyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A laboratory that is up until its value is dropped.
pub struct Up {
    name: String,
    _file: TopologyFile,
}

impl Up {
    pub fn new(name: &str, text: &str) -> Self {
        let file = TopologyFile::new(name, &format!("name: {name}\n{text}"));
        let output = lab(&["up", file.as_str()]);
        assert!(output.status.success(), "{}", text_of(&output));
        Self { name: name.to_owned(), _file: file }
    }

    /// Runs a command line in a host; its output. It must succeed.
    pub fn exec(&self, host: &str, command: &str) -> String {
        let output = self.try_exec(host, command);
        assert!(output.status.success(), "{command}: {}", text_of(&output));
        text(&output.stdout)
    }

    pub fn try_exec(&self, host: &str, command: &str) -> Output {
        let words: Vec<&str> = command.split_whitespace().collect();
        let arguments = [&["exec", "--lab", &self.name, host, "--"], words.as_slice()].concat();
        lab(&arguments)
    }

    /// Runs `fairway lab link` on a link of this laboratory.
    pub fn link(&self, arguments: &[&str]) -> Output {
        lab(&[&["link", "--lab", &self.name], arguments].concat())
    }

    /// The status as JSON.
    pub fn status(&self) -> serde_json::Value {
        let output = lab(&["status", &self.name, "--json"]);
        assert!(output.status.success(), "{}", text_of(&output));
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        all[0].clone()
    }

    /// A counter of one direction of a link.
    pub fn counter(&self, link: &str, sender: &str, counter: &str) -> u64 {
        let status = self.status();
        let link = named(&status["links"], "name", link);
        named(&link["senders"], "sender", sender)["stats"][counter].as_u64().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let output = lab(&["down", &self.name]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "{}", text_of(&output));
        }
    }
}

pub fn text_of(output: &Output) -> String {
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The element of a list whose `key` is `value`.
pub fn named<'a>(list: &'a serde_json::Value, key: &str, value: &str) -> &'a serde_json::Value {
    list.as_array().unwrap().iter().find(|entry| entry[key] == value).unwrap()
}

/// The round-trip times in what ping printed, in milliseconds.
pub fn round_trips(output: &str) -> Vec<f64> {
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
    output.lines().filter_map(time).collect()
}

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
