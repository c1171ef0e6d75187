//! Where backings may lie: within the volume directories, or exactly a device that is named among them.
//!
//! Judged on the real path, every symbolic link resolved, at create, add and every later opening; what is remembered is
//! the real path. The last component is opened without following a link.

use std::io;
use std::path::{Path, PathBuf};

use super::AttachError;

/// The places that are allowed.
pub(super) struct Placement {
    dirs: Vec<PathBuf>,
}

impl Placement {
    /// `own` (where volumes made by envol lie) and `others`.
    pub(super) fn new(own: PathBuf, others: &[PathBuf]) -> Self {
        Self { dirs: std::iter::once(own).chain(others.iter().cloned()).collect() }
    }

    /// The real path of `path`, which need not exist yet, if it is allowed.
    pub(super) fn judge(&self, path: &Path) -> Result<PathBuf, AttachError> {
        let real = real_path(path).map_err(|source| AttachError::BadPath { path: path.to_owned(), source })?;
        // A directory that does not exist (yet) allows nothing.
        let allowed = self.dirs.iter().filter_map(|dir| dir.canonicalize().ok()).any(|dir| real.starts_with(dir));
        if allowed { Ok(real) } else { Err(AttachError::Outside(real)) }
    }
}

/// `path` with every link resolved; of one that does not exist, its directory's real path and its last component.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    if !path.is_absolute() {
        return Err(invalid("the path of a backing is absolute"));
    }
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            let name = path.file_name().ok_or_else(|| invalid("the path of a backing ends in a name"))?;
            let dir = path.parent().ok_or_else(|| invalid("the path of a backing ends in a name"))?;
            Ok(dir.canonicalize()?.join(name))
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_really_lies_in_a_volume_directory_is_allowed() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("exists");
        let (inside, outside) = (root.join("in"), root.join("out"));
        std::fs::create_dir(&inside).expect("made");
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("disk"), b"").expect("made");
        std::fs::write(inside.join("disk"), b"").expect("made");
        symlink(outside.join("disk"), inside.join("link")).expect("made");
        symlink(&outside, inside.join("dir")).expect("made");
        symlink(outside.join("absent"), inside.join("dangling")).expect("made");
        symlink(inside.join("disk"), outside.join("back")).expect("made");
        let placement = Placement::new(inside.clone(), &[root.join("absent"), root.join("named-device")]);

        let allowed = [
            (inside.join("disk"), inside.join("disk")),
            (inside.join("new"), inside.join("new")),
            (outside.join("back"), inside.join("disk")),
        ];
        for (path, real) in allowed {
            assert_eq!(placement.judge(&path).expect("allowed"), real);
        }
        let refused = ["in/link", "in/dir/disk", "in/dir/new", "in/../out/disk", "out/disk", "out/new"];
        for path in refused {
            let verdict = placement.judge(&root.join(path));
            assert!(matches!(verdict, Err(AttachError::Outside(_))), "{path}: {verdict:?}");
        }
        for path in [inside.join("dangling"), PathBuf::from("relative"), PathBuf::from("/"), inside.join("none/new")] {
            assert!(placement.judge(&path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_device_named_among_the_directories_is_allowed_and_its_neighbour_is_not() {
        let placement = Placement::new(PathBuf::from("/nonexistent"), &[PathBuf::from("/dev/null")]);
        assert_eq!(placement.judge(Path::new("/dev/null")).expect("named"), Path::new("/dev/null"));
        assert!(placement.judge(Path::new("/dev/zero")).is_err());
    }
}
