//! The table for people, and the JSON.

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::ask::{Answer, Cached};
use crate::images::used::Used;

const HEAD: [&str; 5] = ["IMAGE", "USED", "BY", "CACHED", "NOTE"];

pub(super) fn text(images: &[Used], cached: &Cached) -> String {
    let rows: Vec<[String; 5]> = images.iter().map(|image| row(image, cached.get(&image.name.to_string()))).collect();
    let head = HEAD.map(str::to_owned);
    let mut widths = [0; 5];
    for row in std::iter::once(&head).chain(&rows) {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(image: &Used, answer: Option<&Answer>) -> [String; 5] {
    let by = if image.name.is_pinned() { "digest" } else { "tag" };
    let cached = match answer {
        None => "unknown".to_owned(),
        Some(answer) if answer.cached == "partly" && !answer.platforms.is_empty() => {
            format!("partly ({})", answer.platforms.join(", "))
        }
        Some(answer) => answer.cached.clone(),
    };
    [image.name.to_string(), image.times.to_string(), by.to_owned(), cached, note(image, answer).join("; ")]
}

fn note(image: &Used, answer: Option<&Answer>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(answer) = answer.filter(|answer| answer.size > 0) {
        notes.push(ByteSize(answer.size).to_string());
    }
    if let Some(upstream) = &image.upstream {
        notes.push(format!("asked for as {upstream}"));
    }
    if !image.is_configured {
        notes.push(format!("{} is no registry of seawall's", image.name.registry));
    }
    notes
}

pub(super) fn json(images: &[Used], cached: &Cached) -> String {
    let images: Vec<Value> = images.iter().map(|image| one(image, cached.get(&image.name.to_string()))).collect();
    format!("{:#}\n", json!({ "images": images }))
}

fn one(image: &Used, answer: Option<&Answer>) -> Value {
    json!({
        "name": image.name.to_string(),
        "registry": image.name.registry,
        "repository": image.name.repository.as_str(),
        "tag": image.name.tag.as_ref().map(ToString::to_string),
        "digest": image.name.digest.as_ref().map(ToString::to_string),
        "used": image.times,
        "configured": image.is_configured,
        "upstream": image.upstream,
        "cached": answer.map_or("unknown", |answer| &answer.cached),
        "platforms": answer.map(|answer| &answer.platforms),
        "names": answer.and_then(|answer| answer.digest.as_ref()),
        "size": answer.map(|answer| answer.size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::name::Name;

    fn images() -> Vec<Used> {
        let image = |text: &str, times, is_configured, upstream: Option<&str>| Used {
            name: Name::read(text).unwrap(),
            times,
            is_configured,
            upstream: upstream.map(str::to_owned),
        };
        vec![
            image("alpine:3.20", 12, true, None),
            image("bitnami/redis", 1, true, Some("docker.io/bitnamilegacy/redis")),
            image("lab.corp/x", 1, false, None),
        ]
    }

    #[test]
    fn a_table_and_json() {
        let answer = Answer {
            name: String::new(),
            cached: "partly".to_owned(),
            platforms: vec!["linux/amd64".to_owned()],
            digest: None,
            size: 2048,
        };
        let cached = Cached::from([("docker.io/library/alpine:3.20".to_owned(), answer)]);
        assert_eq!(
            text(&images(), &cached),
            "IMAGE                           USED  BY   CACHED                NOTE\n\
             docker.io/library/alpine:3.20   12    tag  partly (linux/amd64)  2.0 KiB\n\
             docker.io/bitnami/redis:latest  1     tag  unknown               asked for as docker.io/bitnamilegacy/redis\n\
             lab.corp/x:latest               1     tag  unknown               lab.corp is no registry of seawall's\n"
        );
        let value: Value = serde_json::from_str(&json(&images(), &cached)).unwrap();
        assert_eq!(value["images"][0]["platforms"][0], "linux/amd64");
        assert_eq!(value["images"][2]["cached"], "unknown");
    }
}
