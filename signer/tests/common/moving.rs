//! A token's folder, or a whole signer's, in another place: on SoftHSM a copy stands for the vendor's cloning.

use std::fs;
use std::path::Path;

/// Copies a folder, and makes its configuration files name the copy.
pub(crate) fn copy_moved(from: &Path, to: &Path) {
    copy(from, to, &|text| replaced(text, from, to));
}

/// The text, naming the copy.
pub(crate) fn replaced(text: &str, from: &Path, to: &Path) -> String {
    text.replace(from.to_str().unwrap(), to.to_str().unwrap())
}

fn copy(from: &Path, to: &Path, moved: &impl Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, moved);
        } else if path.extension().is_some_and(|end| end == "conf" || end == "toml") {
            fs::write(&target, moved(&fs::read_to_string(&path).unwrap())).unwrap();
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
