//! A very small terminal: every line in its place, whatever the agent has printed; keys that go to the agent until
//! its end is shown, and keys that detach.

use crate::support::images::{DEBIAN, Debian};
use crate::support::process::{World, bottler};
use crate::support::tmux::Tmux;

/// A terminal in which `b` runs bottler, with the test's own state directory.
fn terminal(world: &World) -> Tmux {
    let state = world.state.path().display().to_string();
    let tmux = Tmux::of_size(world.state.path(), 80, 24);
    tmux.line(&format!("export XDG_STATE_HOME={state} XDG_CONFIG_HOME={state}"));
    tmux.line(&format!(
        "b() {{ {} \"$@\"; }}; sh() {{ b run shell --image {DEBIAN} --no-workspace -y \"$@\"; }}",
        bottler().display()
    ));
    tmux
}

/// The lines after the agent's output, from the report's first line.
fn report(screen: &str) -> Vec<&str> {
    screen.lines().skip_while(|line| !line.contains("sidecars up")).collect()
}

#[test]
fn every_line_begins_at_the_left_whatever_the_agent_leaves() {
    let (world, _image) = (World::new(), Debian::import());
    let tmux = terminal(&world);
    for (number, agent, left) in [
        (1, "printf hello", Some("hello")),
        (2, "printf 'half\\033[?1049h\\033[3;9Hdrawn'; sleep 1; printf '\\033[?1049l'", Some("half")),
        (3, "printf '\\033[?1049h\\033[3;9Hdrawn'; sleep 1", None),
        (4, "printf '\\033[31mred'", Some("red")),
    ] {
        tmux.line("clear");
        tmux.line(&format!("sh -- sh -c \"{agent}\"; echo end-$(({number} * 11))"));
        let screen = tmux.wait(&format!("end-{}", number * 11));
        let report = report(&screen);
        assert!(report.first().is_some_and(|line| line.starts_with("sidecars up")), "{agent}:\n{screen}");
        assert!(report.iter().all(|line| !line.starts_with(' ') || line.trim().is_empty()), "{agent}:\n{screen}");
        if let Some(left) = left {
            assert!(screen.lines().any(|line| line == left), "{agent}: {left}:\n{screen}");
        }
        assert!(!screen.lines().any(|line| line.trim() == "s"), "{agent}:\n{screen}");
    }
}

#[test]
fn a_second_ctrl_c_after_the_agents_end_cancels_nothing() {
    let (world, _image) = (World::new(), Debian::import());
    let tmux = terminal(&world);
    for round in 1..=3 {
        tmux.line("clear");
        let agent = format!("trap 'exit 7' INT; echo armed-{round}-$((5 * 5)); while :; do sleep 0.1; done");
        tmux.line(&format!("sh -- sh -c \"{agent}\"; echo code-$?-$(({round} * 11))"));
        // Output of the previous round is still on the screen.
        tmux.wait(&format!("armed-{round}-25"));
        tmux.keys(&["C-c", "C-c"]);
        tmux.keys(&["C-c"]);
        let screen = tmux.wait(&format!("-{}", round * 11));
        assert!(screen.contains(&format!("code-7-{}", round * 11)), "{screen}");
    }
}

#[test]
fn the_keys_that_leave_can_be_others_and_the_first_alone_is_the_agents() {
    let (world, _image) = (World::new(), Debian::import());
    let tmux = terminal(&world);
    tmux.line("sh --name other-keys --detach-keys ctrl-x,d -- sh -c 'stty raw -echo; echo go-$((5 * 5)); cat -v'");
    tmux.wait("go-25");
    // No key follows.
    tmux.keys(&["C-x"]);
    tmux.wait("^X");
    tmux.keys(&["C-p", "C-q"]);
    tmux.wait("^P^Q");
    tmux.keys(&["C-x", "d"]);
    tmux.wait("other-keys keeps running");
    tmux.line("b attach --detach-keys bad,keys other-keys; echo code-$?");
    tmux.wait("code-120");
    assert_eq!(world.run(&["stop", "other-keys"]).code(), 0);
}
