use super::{IMAGES, SMALL, check_size, chosen, debian::Lock, tools};
use crate::machine::repository;

#[test]
fn names_are_checked() {
    assert_eq!(chosen(&[]).unwrap().len(), IMAGES.len());
    assert!(chosen(&["sever".to_owned()]).is_err());
    let tools = chosen(&["tools".to_owned()]).unwrap();
    assert_eq!(tools.iter().map(|image| image.name).collect::<Vec<_>>(), ["tools"]);
}

#[test]
fn an_image_of_ours_that_is_too_large_is_an_error() {
    for image in IMAGES {
        let is_ours = image.contents.ours().is_some();
        assert_eq!(image.limit, SMALL.filter(|_| is_ours), "{}", image.name);
        assert!(check_size(image, 25_000_000).is_ok());
        assert_eq!(check_size(image, 25_000_001).is_err(), is_ours);
    }
}

#[test]
fn the_lock_file_has_what_is_wanted_and_nothing_that_is_left_out() {
    let lock = Lock::read().unwrap();
    for package in tools::WANTED {
        assert!(lock.entry(package).is_ok(), "{package}: run cargo xtask image --update-lock");
    }
    for package in tools::LEFT_OUT {
        assert!(lock.entry(package).is_err(), "{package}: run cargo xtask image --update-lock");
    }
}

#[test]
fn the_page_and_the_containerfile_name_every_package() {
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let (page, containerfile) = (read("docs/images.md"), read("images/Containerfile"));
    for package in tools::WANTED {
        assert!(page.contains(&format!("| `{package}` |")), "docs/images.md lacks {package}");
        // What every Debian image has.
        let essential = "base-files bash coreutils dash debianutils diffutils findutils grep gzip libc-bin perl-base sed tar";
        let has = |list: &str| list.split_whitespace().any(|word| word == *package);
        assert!(has(essential) || has(&containerfile), "images/Containerfile lacks {package}");
    }
}
