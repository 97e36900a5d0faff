//! A plan, as a person reads it in a terminal, and as data.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::{Client, Content, File, Mode, Plan};
use crate::http::origin::Origin;

/// Columns of a note.
const WIDTH: usize = 100;

impl Content {
    /// What becomes of what is in the file already.
    fn how(&self) -> &'static str {
        match self {
            Content::Whole(_) => "the whole file",
            Content::Json(_) | Content::Toml(_) | Content::Yaml(_) => "add these keys to what is there",
            Content::Lines(_) => "add these lines to what is there",
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Content::Whole(_) => "whole",
            Content::Json(_) => "json",
            Content::Toml(_) => "toml",
            Content::Yaml(_) => "yaml",
            Content::Lines(_) => "lines",
        }
    }
}

impl Plan {
    /// Each file with its path and contents, the commands, the notes.
    pub fn text(&self, client: Client, mode: Mode, address: &Origin) -> String {
        let mut text = match (mode, client) {
            // The rules know the port; names do not.
            (Mode::Dns, client) if client != Client::Iptables => {
                format!("# {client} comes to {}, port 443, by --mode {mode}\n", address.host)
            }
            _ => format!("# {client} comes to {address} by --mode {mode}\n"),
        };
        let others: Vec<_> =
            client.modes().iter().filter(|other| **other != mode).map(|m| format!("--mode {m}")).collect();
        if !others.is_empty() {
            let _ = writeln!(text, "# Other ways: {}", others.join(", "));
        }
        for (index, file) in self.files.iter().enumerate() {
            match self.files[..index].iter().find(|earlier| earlier.content == file.content) {
                Some(earlier) => same_file(&mut text, &file.path, &earlier.path),
                None => whole_file(&mut text, file),
            }
        }
        if !self.commands.is_empty() {
            let _ = write!(text, "\n## Then run\n\n{}\n", self.commands.join("\n"));
        }
        if !self.check.is_empty() {
            let _ = write!(text, "\n## See that it works\n\n{}\n", self.check.join("\n"));
        }
        if !self.notes.is_empty() {
            text.push_str("\n## To know\n\n");
            self.notes.iter().for_each(|note| text.push_str(&note_item(note)));
        }
        text
    }

    /// The same as data.
    pub fn to_json(&self, client: Client, mode: Mode, address: &Origin) -> serde_json::Value {
        let file =
            |file: &File| json!({ "path": file.path, "kind": file.content.kind(), "content": file.content.text() });
        json!({
            "client": client.as_str(),
            "mode": mode,
            "address": address.to_string(),
            "files": self.files.iter().map(file).collect::<Vec<_>>(),
            "commands": self.commands,
            "check": self.check,
            "notes": self.notes,
            "undo": self.undo,
        })
    }
}

fn whole_file(text: &mut String, file: &File) {
    let content = file.content.text();
    let _ = write!(text, "\n## File {} ({})\n\n{}\n", file.path.display(), file.content.how(), content.trim_end());
}

fn same_file(text: &mut String, path: &Path, earlier: &Path) {
    let _ = write!(text, "\n## File {} (the same as {})\n", path.display(), earlier.display());
}

/// A note, wrapped. Lines of its own stay lines.
pub fn note_item(note: &str) -> String {
    let mut text = String::new();
    for (index, line) in note.lines().enumerate() {
        let mut column = 0;
        text.push_str(if index == 0 { "- " } else { "  " });
        if line.starts_with(' ') {
            text.push_str(line);
        } else {
            for word in line.split(' ') {
                let width = word.chars().count();
                if column > 0 && column + 1 + width > WIDTH - 2 {
                    text.push_str("\n  ");
                    column = 0;
                } else if column > 0 {
                    text.push(' ');
                    column += 1;
                }
                text.push_str(word);
                column += width;
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_from_top_to_bottom() {
        let plan = Plan {
            files: vec![
                File { path: "/etc/a.json".into(), content: Content::Json(json!({"a": [1]})) },
                File { path: "/etc/b".into(), content: Content::Lines("x\n".into()) },
                File { path: "/etc/c".into(), content: Content::Lines("x\n".into()) },
            ],
            commands: vec!["systemctl restart it".into()],
            check: vec!["it --version".into()],
            notes: vec![format!("{}.\nwrite\n  this = that", "word ".repeat(30).trim_end())],
            ..Plan::default()
        };
        let address = Origin::from_url("http://seawall.lab:3128").unwrap().0;
        let text = plan.text(Client::Docker, Mode::Proxy, &address);
        let words = |n: usize| "word ".repeat(n).trim_end().to_owned();
        let expected = format!(
            "# docker comes to http://seawall.lab:3128 by --mode proxy\n# Other ways: --mode mirror, --mode dns\n\n\
             ## File /etc/a.json (add these keys to what is there)\n\n{{\n  \"a\": [\n    1\n  ]\n}}\n\n\
             ## File /etc/b (add these lines to what is there)\n\nx\n\n\
             ## File /etc/c (the same as /etc/b)\n\n\
             ## Then run\n\nsystemctl restart it\n\n## See that it works\n\nit --version\n\n## To know\n\n- {}\n  {}.\n  write\n    this = that\n",
            words(19),
            words(11)
        );
        assert_eq!(text, expected);
        let data = plan.to_json(Client::Docker, Mode::Proxy, &address);
        assert_eq!((&data["mode"], &data["files"][1]["content"]), (&json!("proxy"), &json!("x\n")));
    }
}
