//! The file that `seawall config init` writes: every key, commented out, with its default.

use std::fmt::Write as _;

use super::keys::{Form, PARTS};

const HEAD: &str = r##"# The configuration of seawall. Nothing has to be here: what is commented out, as in #data = "…", is the default. Take the # away
# and change it; the # of the [[…]] above it, too.
#
# What is in force, and from where: seawall config show. What it means, and every mistake: seawall check.
# A variable wins over this file, as in SEAWALL_CACHE__MAX_SIZE=50GiB, and a flag over both.
# Sizes are "20GiB" or "500MB". Times are "500ms", "10s", "5m", "7d"; how long something is valid also "forever".
# A path is relative to the directory that seawall is started in. Secrets are in files of their own.
"##;

/// The file. It means what no file means.
pub fn starter() -> String {
    let mut text = HEAD.to_owned();
    for part in PARTS {
        text.push('\n');
        if !part.says.is_empty() {
            writeln!(text, "# {}", part.says).expect("a String can be written to");
        }
        // A `[[registry]]` that stands there is one, and an empty one is an error.
        let mark = if part.form == Form::Section { "" } else { "#" };
        if !part.path.is_empty() {
            writeln!(text, "{mark}{}", part.header()).expect("a String can be written to");
        }
        for key in part.keys {
            let (name, default, says) = (key.name, key.default, key.says);
            writeln!(text, "# {name}: {says}\n#{name} = {default}").expect("a String can be written to");
        }
    }
    text
}
