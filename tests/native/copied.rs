//! Files come out of a container that has ended, by its own namespaces; what it left leads nobody out of them.

use bottler::engine::Engine;

use crate::lab::{Entry, Lab, USER, as_everybody};

#[test]
fn promise_21_what_an_ended_container_left_is_copied_out_as_it_is() {
    as_everybody("copied::lab_copied");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_copied() {
    let Some(lab) = Lab::new() else { return };
    let shadow =
        [Entry::Folder("etc", 0), Entry::File("etc/shadow", b"the image's"), Entry::File("home/given", b"given")];
    lab.image("lab:1", &shadow).await.unwrap();
    let spec = Lab::container("left", "lab:1", "inside::leaves_work");
    let said = lab.run(&spec).await;
    assert!(said.contains("says: left"), "{said}");
    let state = lab.engine.container_inspect("left").await.unwrap();
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", Some(0)));

    for _ in 0..2 {
        let found = lab.download("left", "/home/kept").await.unwrap();
        let content = |name: &str| found.get(name).map(String::as_str);
        assert_eq!(content("kept/file"), Some("work"), "{found:?}");
        assert_eq!(content("kept/deep/file"), Some("more work"), "an attribute hid it: {found:?}");
        assert_eq!(content("kept/unreadable"), Some("own"), "{found:?}");
        assert_eq!(content("kept/pipe"), Some(""), "{found:?}");
        assert_eq!(content("kept/socket"), None, "{found:?}");
        for (name, to) in
            [("up", "../../../../../../../../etc/shadow"), ("init", "/proc/1/root/etc/shadow"), ("loop", "loop")]
        {
            assert_eq!(content(&format!("kept/{name}")), Some(&*format!("-> {to}")), "a link stays one: {found:?}");
        }
    }
    // A path that is itself a link leads on inside, and nowhere else.
    // Of the first process, which is the host's root in a container with users of its own, its root may see nothing.
    let is_root = nix::unistd::geteuid().is_root();
    let by_links = if is_root { &["up", "absolute"][..] } else { &["up", "absolute", "init"] };
    for name in by_links {
        let found = lab.download("left", &format!("/home/kept/{name}")).await.unwrap();
        assert_eq!(found.get(*name).map(String::as_str), Some("the image's"), "{name}");
    }
    assert!(lab.download("left", "/home/kept/loop").await.unwrap_err().starts_with("Other"));
    assert!(lab.download("left", "/home/given").await.unwrap_err().starts_with("NotFound"), "it was removed");
    assert_eq!(lab.download("left", "/home/kept/descriptor").await.map(|found| found.len()).ok(), None);
    let root = lab.download("left", "/home/kept/folder/home").await;
    assert_eq!(root.is_ok_and(|root| root.contains_key("home/kept/file")), !is_root);
    assert_eq!(lab.download("left", "/home/kept/init").await.is_ok(), !is_root);
    assert!(lab.download("left", "/home/kept/file").await.is_ok());

    // Nothing runs in it, and nothing is written.
    assert!(lab.engine.container_upload("left", bottler::engine::whole(Vec::new().into())).await.is_err());
    let state = lab.engine.container_inspect("left").await.unwrap();
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", Some(0)));
    let folder = lab.folder.join(".local/share/bottler/native/containers/left");
    assert!(!folder.join("copy").exists());
    lab.remove("left").await;
    assert!(!folder.exists());
}

/// Its shim was killed, and nobody has noted how it ended.
#[test]
fn promise_21_a_container_whose_shim_was_killed_is_copied_out_too() {
    as_everybody("copied::lab_killed");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_killed() {
    let Some(lab) = Lab::new() else { return };
    lab.image("lab:1", &[Entry::Folder("home/kept", USER), Entry::File("home/kept/file", b"given")]).await.unwrap();
    let id = lab.engine.container_create(&Lab::container("killed", "lab:1", "inside::waits")).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    assert!(lab.download(&id, "/home/kept").await.unwrap_err().starts_with("Other"), "it runs");
    let (_, shim) = lab.processes("killed");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    lab.engine.container_wait(&id, true).await.unwrap();
    let found = lab.download(&id, "/home/kept").await.unwrap();
    assert_eq!(found.get("kept/file").map(String::as_str), Some("given"), "{found:?}");
    lab.remove(&id).await;
}
