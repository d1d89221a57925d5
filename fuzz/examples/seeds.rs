//! Writes every target's seeds into folders of a corpus.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a tool for developers")]

fn main() {
    let corpus = std::env::args_os().nth(1).expect("name the corpus folder");
    for target in fuzz::TARGETS {
        let folder = std::path::Path::new(&corpus).join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (nth, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{nth:02}")), seed).unwrap();
        }
    }
}
