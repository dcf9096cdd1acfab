//! Escapes that other runtimes had. What needs no more than an ordinary agent is tried by the probe in every launch; here is what
//! needs a container made for it.

use std::os::unix::fs::MetadataExt;

use bottler::engine::{Bind, ContainerSpec, Engine, ExecSpec, Output, TerminalSize, VolumeMount, VolumeSpec};
use futures_util::StreamExt;

use crate::lab::{ATTACKER, Entry, Lab, PATIENCE, USER, as_everybody, run_as, until, words};
use crate::world::Who;

const IMAGE: &str = "lab:1";

/// CVE-2016-9962 and CVE-2019-5736: a process that joins a container has privileges until its exec, and is started from an
/// executable of the host's.
#[test]
fn who_joins_a_container_shows_nothing_to_who_is_in_it() {
    as_everybody("escapes::lab_who_joins");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_who_joins() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    // In the container as the same user as those who join: as root, where the engine is root's.
    let user = if nix::unistd::geteuid().is_root() { 0 } else { USER };
    let spec = ContainerSpec { user: format!("{user}:{user}"), ..Lab::container("snoop", IMAGE, "inside::snoops") };
    let id = lab.engine.container_create(&spec).await.unwrap();
    let mut streams = lab.engine.container_attach(&id).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    let mut said = String::new();
    let mut reading = true;
    // Until it has looked often enough into what was joining.
    let done = |said: &str| said.matches("looked").count() >= 40 || said.contains("leak");
    while reading && !done(&said) {
        let exec = async {
            let spec = ExecSpec::plain(vec![ATTACKER.into(), "--list".into()]);
            let (_, mut streams) = lab.engine.exec(&id, &spec).await.unwrap();
            while streams.output.next().await.is_some() {}
        };
        tokio::pin!(exec);
        loop {
            tokio::select! {
                piece = streams.output.next() => {
                    let Some(piece) = piece else {
                        reading = false;
                        break;
                    };
                    let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece.unwrap();
                    said.push_str(&String::from_utf8_lossy(&bytes));
                    if done(&said) {
                        break;
                    }
                }
                () = &mut exec => break,
            }
        }
    }
    assert!(reading && !said.contains("leak"), "{said}");
    lab.remove(&id).await;
}

/// An agent that stops whatever joins its container keeps nobody from ending it.
#[test]
fn promise_02_a_container_that_stops_all_who_join_it_ends_with_its_engine() {
    as_everybody("escapes::lab_stopped");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_stopped() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    let user = if nix::unistd::geteuid().is_root() { 0 } else { USER };
    let spec =
        ContainerSpec { user: format!("{user}:{user}"), ..Lab::container("stops", IMAGE, "inside::stops_others") };
    let id = lab.engine.container_create(&spec).await.unwrap();
    let mut streams = lab.engine.container_attach(&id).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    let mut said = String::new();
    let mut read = async |said: &mut String| {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = streams.output.next().await.expect("it goes on").unwrap();
        said.push_str(&String::from_utf8_lossy(&bytes));
    };
    while !said.contains("ready") {
        read(&mut said).await;
    }
    // Where it is stopped before it is this executable, its shim says nothing any more, and passes nothing on.
    let stopped = lab.folder.join(".local/share/bottler/native/containers/stops/upper/home/stopped");
    let seen = until("somebody to be stopped", || stopped.exists());
    tokio::pin!(seen);
    loop {
        let spec = ExecSpec::plain(vec![ATTACKER.into(), "--list".into()]);
        tokio::select! {
            () = &mut seen => break,
            asked = lab.engine.exec(&id, &spec) => drop(asked.unwrap()),
        }
    }
    let (first, shim) = lab.processes("stops");
    // Whenever they are stopped, who waits for them is answered, and what has been given up is gone.
    let asked = (0..20).map(|_| async {
        let spec = ExecSpec::plain(vec![ATTACKER.into(), "--list".into()]);
        match lab.engine.exec(&id, &spec).await {
            Ok(_) => {}
            Err(error) => assert!(error.message.contains("(SIGSTOP)"), "{error}"),
        }
    });
    tokio::time::timeout(PATIENCE, futures_util::future::join_all(asked)).await.expect("each is answered");
    until("the first process to be alone", || children(shim) == [first]).await;
    // The engine is closed as its process' end closes it.
    drop(streams);
    let Lab { engine, .. } = lab;
    drop(engine);
    until("the container to end", || !std::path::Path::new(&format!("/proc/{first}")).exists()).await;
    let lab = Lab::new().unwrap();
    lab.remove("stops").await;
}

/// Who leaves a command on a terminal, as by ctrl-p ctrl-q, leaves it running; what is on no terminal ends with its client.
#[test]
fn commands_on_a_terminal_go_on_without_their_client() {
    as_everybody("escapes::lab_left");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_left() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    let id = lab.engine.container_create(&Lab::container("left", IMAGE, "inside::waits")).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    let (first, shim) = lab.processes("left");
    for tty in [true, false] {
        let spec = ExecSpec { tty, ..ExecSpec::plain(words("inside::writes")) };
        let (_, mut streams) = lab.engine.exec(&id, &spec).await.unwrap();
        streams.output.next().await.unwrap().unwrap();
    }
    // The one on a terminal, which writes without end, and the first.
    until("one command to be left", || children(shim).len() == 2).await;
    let left = children(shim).into_iter().find(|child| *child != first).unwrap();
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(12).unwrap().parse::<u64>().unwrap()
    };
    let before = used();
    until("it to write on", || used() != before).await;
    lab.remove(&id).await;
}

/// The children of all threads of a process.
fn children(process: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let read = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let lines = tasks.filter_map(Result::ok).map(read);
    lines.flat_map(|line| line.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// Whoever is stopped while it follows a container, as by ctrl-z, neither holds up the container's end nor its removal.
#[test]
fn promise_13_a_client_that_does_not_read_keeps_no_container_from_ending() {
    as_everybody("escapes::lab_unread");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_unread() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    let id = lab.engine.container_create(&Lab::container("writes", IMAGE, "inside::writes")).await.unwrap();
    let mut unread = lab.engine.container_attach(&id).await.unwrap();
    let follows = lab.engine.container_logs(&id, None, true).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    // It has begun, and nobody reads on.
    unread.output.next().await.unwrap().unwrap();
    lab.remove(&id).await;
    drop((unread, follows));
}

/// CVE-2024-21626: a descriptor of the host's, or a working directory there, leads out.
#[test]
fn nothing_of_the_hosts_is_open_in_a_container() {
    as_everybody("escapes::lab_descriptors");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_descriptors() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[Entry::Folder("own", USER)]).await.unwrap();
    let check = |said: &str, whose: &str| {
        let lines: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("says: ")).collect();
        let open: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("descriptor ")).collect();
        assert_eq!(open.len(), 3, "{whose}: {said}");
        for (number, line) in open.iter().enumerate() {
            let target = line.strip_prefix(&format!("{number} ")).unwrap_or_else(|| panic!("{whose}: {said}"));
            let own = ["pipe:[", "/dev/pts/", "/dev/null"].iter().any(|kind| target.starts_with(kind));
            assert!(own, "{whose}: {said}");
        }
        assert!(lines.contains(&"works in /home"), "{whose}: {said}");
        let sees = lines.iter().find_map(|line| line.strip_prefix("sees ")).unwrap();
        assert_eq!(sees, "attacker dev etc home own proc sys tmp", "{whose}");
    };
    let first = ContainerSpec { tty: false, ..Lab::container("first", IMAGE, "inside::descriptors") };
    check(&lab.run(&first).await, "the first process");
    let first = ContainerSpec { name: "terminal".into(), tty: true, ..first };
    check(&lab.run(&first).await, "the first process, on a terminal");
    let waits = Lab::container("waits", IMAGE, "inside::waits");
    let id = lab.engine.container_create(&waits).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    check(&lab.exec(&id, "inside::descriptors", false).await, "a command beside it");
    check(&lab.exec(&id, "inside::descriptors", true).await, "a command beside it, on a terminal");
    for id in ["first", "terminal", "waits"] {
        lab.remove(id).await;
    }
}

/// CVE-2017-5226: what is typed into a terminal is executed by whoever reads it.
#[test]
fn nobody_types_into_a_terminal() {
    as_everybody("escapes::lab_terminal");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_terminal() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    let spec = ContainerSpec { tty: true, ..Lab::container("types", IMAGE, "inside::types_into_its_terminal") };
    let said = lab.run(&spec).await;
    assert_eq!(said.matches("Err(EPERM)").count(), 3, "{said}");
    assert!(lab.engine.container_resize("types", TerminalSize { width: 1, height: 1 }).await.is_err(), "it has ended");
    lab.remove("types").await;
}

/// A user with number 0 has no capability, and owns the nodes of devices all the same: they are the host's.
#[test]
fn nobody_changes_the_nodes_of_devices() {
    as_everybody("escapes::lab_devices");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_devices() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    let spec = ContainerSpec { user: "0:0".into(), ..Lab::container("devices", IMAGE, "inside::changes_devices") };
    let said = lab.run(&spec).await;
    assert_eq!(said.matches("Err(Some(30))").count(), 7, "read-only: {said}");
    assert!(said.contains("written: true"), "{said}");
    lab.remove("devices").await;
}

/// Abstract sockets are in a network namespace, not in a file system.
#[test]
fn the_hosts_abstract_sockets_are_out_of_reach() {
    as_everybody("escapes::lab_abstract");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_abstract() {
    use std::os::linux::net::SocketAddrExt;
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[]).await.unwrap();
    let name = format!("bottler-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    // It is there, for the host.
    std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    drop(listener.accept().unwrap());
    let mut spec = Lab::container("calls", IMAGE, "inside::calls_the_host");
    spec.env.insert("NAME".into(), name);
    let said = lab.run(&spec).await;
    assert!(said.contains("called: Err(ConnectionRefused)"), "{said}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody called");
    lab.remove("calls").await;
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2021-30465: links in an image lead a mount elsewhere.
#[test]
fn links_in_an_image_lead_no_mount_out_of_it() {
    as_everybody("escapes::lab_links");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_links() {
    let Some(lab) = Lab::new() else { return };
    let victim = lab.folder.join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "the host's").unwrap();
    let up = format!("../../../../../../../..{}", victim.display());
    let (file, folder) = (format!("{up}/file"), victim.display().to_string());
    let links = [
        Entry::Folder("etc", 0),
        Entry::Link("etc/hosts", &file),
        Entry::Link("etc/resolv.conf", &file),
        Entry::Link("mounted", &folder),
    ];
    lab.image("lab:nowhere", &links).await.unwrap();
    let spec = Lab::container("links", "lab:nowhere", "inside::nothing");
    let id = lab.engine.container_create(&spec).await.unwrap();
    let error = lab.engine.container_start(&id).await.unwrap_err();
    assert!(error.message.contains("find /etc/hosts in the container"), "{error}");
    // Where they lead to something inside, it is that.
    let inside = victim.strip_prefix("/").unwrap();
    let there = inside.join("file");
    let mut links = Vec::from(links);
    let above: Vec<&std::path::Path> = inside.ancestors().filter(|path| *path != std::path::Path::new("tmp")).collect();
    let above = above.iter().rev().filter_map(|path| path.to_str()).filter(|path| !path.is_empty());
    links.extend(above.map(|path| Entry::Folder(path, 0)));
    links.push(Entry::File(there.to_str().unwrap(), b"the image's"));
    lab.image("lab:links", &links).await.unwrap();
    let mut spec = Lab::container("links", "lab:links", "inside::reads");
    spec.tmpfs.insert("/mounted/memory".into(), "rw,size=16k".into());
    spec.env.insert("NAME".into(), "/etc/hosts".into());
    spec.hosts.push(("somewhere".into(), "127.0.0.7".into()));
    let said = lab.run(&spec).await;
    // Its own file is there: where the link leads inside.
    assert!(said.contains("nameserver") || said.contains("127.0.0.7"), "{said}");
    assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "the host's");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1);
    lab.remove("links").await;
    for path in ["proc", "sys", "dev"] {
        let tag = format!("lab:{path}");
        lab.image(&tag, &[Entry::Folder("other", 0), Entry::Link(path, "other")]).await.unwrap();
        let id = lab.engine.container_create(&Lab::container("linked", &tag, "inside::nothing")).await.unwrap();
        let error = lab.engine.container_start(&id).await.unwrap_err();
        assert!(error.message.contains(&format!("/{path} must be a folder in the image")), "{error}");
        assert!(!lab.folder.join(".local/share/bottler/native/containers/linked").exists(), "nothing of it is left");
        assert_eq!(lab.engine.container_remove(&id).await.unwrap(), bottler::engine::Removal::WasGone);
    }
    // A link in an archive, and a file behind it.
    let out = [Entry::Link("out", &folder), Entry::File("out/file", b"the image's")];
    assert!(lab.image("lab:out", &out).await.is_err());
    let out = [Entry::Link("out", &up), Entry::Folder("out/folder", 0)];
    assert!(lab.image("lab:out2", &out).await.is_err());
    assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "the host's");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1);
}

/// CVE-2023-0386 and its like: what an overlay keeps in attributes is not what an image or an agent writes there.
#[test]
fn overlay_attributes_of_an_image_or_an_agent_mean_nothing() {
    as_everybody("escapes::lab_overlay");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_overlay() {
    let Some(lab) = Lab::new() else { return };
    let given = [
        Entry::File("home/given", b"the image's"),
        Entry::Attribute("marked", "user.overlay.whiteout", "y"),
        Entry::Attribute("marked2", "trusted.overlay.opaque", "y"),
        Entry::Attribute("marked3", "security.capability", "\u{1}"),
    ];
    lab.image(IMAGE, &given).await.unwrap();
    let store = lab.folder.join(".local/share/bottler/native/images");
    for image in std::fs::read_dir(store).unwrap() {
        for name in ["marked", "marked2", "marked3"] {
            let mut names = [0; 4096];
            let length =
                rustix::fs::listxattr(image.as_ref().unwrap().path().join("files").join(name), &mut names).unwrap();
            assert_eq!(length, 0, "{name}: {}", String::from_utf8_lossy(&names[..length]));
        }
    }
    let spec = Lab::container("leaves", IMAGE, "inside::leaves_work");
    let said = lab.run(&spec).await;
    assert!(said.contains("says: left"), "{said}");
    assert!(said.contains("whiteout: Err(EPERM)"), "{said}");
    // Started again, it has its image as that is, and nothing of what it wrote.
    let streams = lab.engine.container_attach("leaves").await.unwrap();
    lab.engine.container_start("leaves").await.unwrap();
    let again: Vec<_> = streams.output.collect().await;
    let again = again.into_iter().map(|piece| match piece.unwrap() {
        Output::Stdout(bytes) | Output::Stderr(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    });
    let again = again.collect::<String>();
    assert!(again.contains("found nothing") && again.contains("says: left"), "{again}");
    lab.remove("leaves").await;
}

/// Where root runs the engine, a container's users are nobody's on the host, its root as well. On the disk, files have the owners
/// that they have inside: volumes and mounted folders do not depend on the numbers.
#[test]
fn who_breaks_out_of_roots_container_is_nobody() {
    run_as(Who::Root, "escapes::lab_nobody");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_nobody() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[Entry::Folder("opt", 0)]).await.unwrap();
    let shared = lab.folder.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(USER), Some(USER)).unwrap();
    let bind = |source: &std::path::Path, target: &str| Bind {
        source: source.display().to_string(),
        target: target.into(),
        read_only: source != shared,
    };
    let spec = |name: &str, user: u32, binds: Vec<Bind>| ContainerSpec {
        user: format!("{user}:{user}"),
        tmpfs: [("/memory".to_owned(), format!("rw,size=16k,mode=700,uid={user},gid={user}"))].into(),
        binds,
        ..Lab::container(name, IMAGE, "inside::owns_files")
    };
    let mut numbers = std::collections::BTreeSet::new();
    for (name, user) in [("one", USER), ("two", USER), ("root", 0)] {
        let id = lab.engine.container_create(&spec(name, user, vec![bind(&shared, "/shared")])).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let said = lab.exec(&id, "inside::owns_files", false).await;
        assert!(
            said.contains(&format!("is {user}:{user}, owners /:0 /opt:0 /home:{USER} /shared:{USER} /memory:{user}")),
            "{said}"
        );
        assert!(said.contains("opens its output: true"), "{said}");
        // Users without capabilities make files where they may: root is nobody in particular.
        assert!(said.contains(&format!("made /memory:{user}")), "{said}");
        let (first, _) = lab.processes(&id);
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(|number| number.parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        let (users, groups) = (of("Uid:"), of("Gid:"));
        assert!(users.iter().chain(&groups).all(|number| *number >= 0x7800_0000), "{users:?} {groups:?}");
        assert_eq!(of("Groups:"), [0; 0]);
        assert_ne!(
            std::fs::read_link(format!("/proc/{first}/ns/user")).unwrap(),
            std::fs::read_link("/proc/self/ns/user").unwrap()
        );
        numbers.insert(users[0]);
        lab.remove(&id).await;
    }
    assert_eq!(numbers.len(), 3, "each has its own");
    let made = std::fs::metadata(shared.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (USER, USER));

    // What cannot be mapped is mounted as it is, by the host's numbers.
    let id =
        lab.engine.container_create(&spec("plain", USER, vec![bind("/sys/kernel".as_ref(), "/given")])).await.unwrap();
    lab.engine.container_start(&id).await.unwrap();
    let said = lab.exec(&id, "inside::owns_files", false).await;
    assert!(said.contains(&format!("is {USER}:{USER}")) && said.contains("/home:1000"), "{said}");
    let (first, _) = lab.processes(&id);
    assert_eq!(std::fs::metadata(format!("/proc/{first}")).unwrap().uid(), USER);
    lab.remove(&id).await;
}

/// The same of an ordinary user's, by newuidmap. A volume goes from containers with a range to such that have a folder of the user's
/// mounted, and so no range, and back.
#[test]
fn who_breaks_out_of_a_users_container_owns_nothing() {
    run_as(Who::Range, "escapes::lab_ranged");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn lab_ranged() {
    let Some(lab) = Lab::new() else { return };
    lab.image(IMAGE, &[Entry::Folder("opt", 0), Entry::Folder("shared", 0)]).await.unwrap();
    let shared = lab.folder.join("given");
    std::fs::create_dir(&shared).unwrap();
    let identity = Lab::container("x", IMAGE, "x").identity;
    let volume = VolumeSpec { name: "kept".into(), owner: Some((USER, USER)), may_be_kept: true, identity };
    lab.engine.volume_create(&volume).await.unwrap();
    let own = nix::unistd::getuid().as_raw();
    let ranged = crate::world::RANGE + USER - 1;
    for (name, user, is_mounted, number) in [
        ("one", USER, false, ranged),
        ("plain", USER, true, own),
        ("again", USER, false, ranged),
        ("root", 0, false, own),
    ] {
        let bind = Bind { source: shared.display().to_string(), target: "/shared".into(), read_only: false };
        let spec = ContainerSpec {
            user: format!("{user}:{user}"),
            tmpfs: [("/memory".to_owned(), format!("rw,size=16k,mode=700,uid={user},gid={user}"))].into(),
            binds: if is_mounted { vec![bind] } else { Vec::new() },
            mounts: vec![VolumeMount { volume: "kept".into(), target: "/home".into(), read_only: false }],
            ..Lab::container(name, IMAGE, "inside::owns_files")
        };
        let id = lab.engine.container_create(&spec).await.unwrap();
        lab.engine.container_start(&id).await.unwrap();
        let said = lab.exec(&id, "inside::owns_files", false).await;
        let root = if is_mounted { USER } else { 0 };
        assert!(
            said.contains(&format!("is {user}:{user}, owners /:{root} /opt:{root} /home:{USER}")),
            "{name}: {said}"
        );
        assert!(said.contains(&format!("made /memory:{user}")), "{name}: {said}");
        assert!(said.contains("opens its output: true"), "{name}: {said}");
        // Who is root inside owns nothing of others', and has no capability.
        assert_eq!(said.contains("made /home:"), user == USER, "{name}: {said}");
        let (first, _) = lab.processes(&id);
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        let numbers = format!("Uid:\t{number}\t{number}\t{number}\t{number}");
        assert!(status.contains(&numbers) && status.contains("\nGroups:\t \n"), "{name}: {status}");
        let made = lab.folder.join(".local/share/bottler/native/volumes/kept/data/made");
        assert_eq!(std::fs::metadata(&made).unwrap().uid(), if user == USER { number } else { ranged }, "{name}");
        lab.remove(&id).await;
    }
    lab.engine.volume_remove("kept").await.unwrap();
}
