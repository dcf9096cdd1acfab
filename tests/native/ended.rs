//! Whatever is killed, nothing of a bottle goes on, and nothing is left.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{Who, World, groups_of, wait_for};

/// Kills whoever has a role.
pub fn strike(world: &World, role: &str) {
    for pid in world.processes(role) {
        // What has ended meanwhile needs no blow.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        world.struck.lock().unwrap().push(pid);
    }
}

#[test]
fn promise_11_whoever_is_killed_the_bottle_ends_and_nothing_is_left() {
    for (who, roles) in [
        (Who::Root, &["holder"][..]),
        (Who::Root, &["container-shim"]),
        (Who::Root, &["reaper", "holder"]),
        (Who::User, &["container-shim", "holder"]),
        (Who::User, &["holder", "reaper"]),
    ] {
        let world = World::new(who);
        let bottle = world.idle();
        for role in roles {
            assert!(!world.processes(role).is_empty(), "{who:?} {roles:?}: {role} does not run");
            strike(&world, role);
        }
        wait_for("the bottle's processes to end", || {
            let running: Vec<String> = groups_of(&bottle)
                .iter()
                .filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok())
                .flat_map(|processes| processes.lines().map(str::to_owned).collect::<Vec<_>>())
                .collect();
            if running.is_empty() { Ok(()) } else { Err(format!("{who:?} {roles:?}: {running:?}")) }
        });
        world.wait_struck();
        if roles.contains(&"reaper") {
            // Nobody is left who would remove it: the next command does.
            let done = world.run(&["gc"]);
            assert_eq!(done.code, 0, "{who:?} {roles:?}: {}", done.stderr);
        }
        world.wait_clean();
        assert_eq!(groups_of(&bottle), Vec::<std::path::PathBuf>::new(), "{who:?} {roles:?}");
    }
}

/// Kills egress, so that the agent is paused.
fn kill_egress(world: &World, bottle: &str) {
    let egress = world.first_process(&format!("{bottle}-egress"));
    kill(Pid::from_raw(egress), Signal::SIGKILL).unwrap();
}

fn wait_paused(world: &World, bottle: &str, wanted: bool) {
    wait_for("the agent to be paused, or to go on", || {
        let seen = world.run(&["inspect", bottle]);
        let seen: serde_json::Value = serde_json::from_str(&seen.stdout).map_err(|error| error.to_string())?;
        if seen["condition"]["paused"].is_null() == wanted { Err(seen["condition"].to_string()) } else { Ok(()) }
    });
}

/// In the first version of control groups, what is frozen does not die: whoever kills it must let it thaw.
/// An agent that stops whatever joins its container keeps the proof from being repeated.
#[test]
fn promise_01_an_agent_that_stops_the_proof_is_paused() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        world.write(
            ".config/bottler/bottler.yaml",
            "bottles: {stops: {watch: 1}}\nagents: {stops: {bottle: stops, template: probe}}\n",
        );
        world.write("work/notes.txt", "");
        let work = world.folder().join("work");
        std::fs::copy("/proc/self/exe", work.join("attacker")).unwrap();
        let (recipe, work) = (world.recipe("stops.lua"), work.display().to_string());
        let launched = world.run(&["run", "stops", "--recipe", &recipe, "--workspace", &work, "--detach", "--yes"]);
        assert_eq!(launched.code, 0, "{who:?} {}", launched.stderr);
        let bottle = launched.stdout.trim();
        wait_paused(&world, bottle, true);
        let audit = world.run(&["audit", "show", bottle, "--refused"]).stdout;
        assert!(audit.contains("not_tight"), "{who:?} {audit}");
        assert_eq!(world.run(&["stop", bottle]).code, 0, "{who:?}");
        assert_eq!(world.run(&["rm", "--discard", bottle]).code, 0, "{who:?}");
        world.wait_clean();
    }
}

#[test]
fn promise_12_a_paused_agent_ends_when_all_who_could_let_it_go_on_are_dead() {
    for who in Who::BOUNDED {
        for roles in [&["reaper", "holder"][..], &["holder", "reaper"], &["holder"]] {
            let world = World::new(who);
            let bottle = world.idle();
            kill_egress(&world, &bottle);
            wait_paused(&world, &bottle, true);
            for role in roles {
                strike(&world, role);
            }
            let reapers = world.processes("reaper");
            wait_for("the paused agent to end", || {
                let alive: Vec<i32> = world.alive().into_iter().filter(|pid| !reapers.contains(pid)).collect();
                if alive.is_empty() { Ok(()) } else { Err(format!("{who:?} {roles:?}: {alive:?}")) }
            });
            world.wait_struck();
            if roles.contains(&"reaper") {
                assert_eq!(world.run(&["gc"]).code, 0, "{who:?} {roles:?}");
            }
            world.wait_clean();
        }
    }
}

/// Without its shim nobody is left who could let a paused agent thaw: it does nothing, and the next command removes it.
#[test]
fn promise_12_a_paused_agent_of_which_everybody_is_dead_is_removed_by_the_next_command() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        let bottle = world.idle();
        kill_egress(&world, &bottle);
        wait_paused(&world, &bottle, true);
        let roles = ["container-shim", "reaper", "holder"];
        for role in roles {
            strike(&world, role);
        }
        world.wait_struck();
        // A process that the holder has just forked has its lock until it becomes another program: to a command of that moment,
        // the bottle lives.
        wait_for("the next command to remove it", || {
            let done = world.run(&["gc"]);
            let left = (world.alive(), world.left());
            let clean = done.code == 0 && left == (Vec::new(), Vec::new());
            if clean { Ok(()) } else { Err(format!("{who:?} {left:?} {}{}", done.stdout, done.stderr)) }
        });
    }
}

#[test]
fn a_dead_egress_is_started_again_and_the_agent_goes_on() {
    for who in Who::BOUNDED {
        let world = World::new(who);
        world.write("work/notes.txt", "given\n");
        world.hand_over(&world.folder().join("work"));
        let work = world.folder().join("work").display().to_string();
        // With a folder of the user's, the agent has other users inside than egress; what proves it again has the agent's.
        let mounted = ["--mount", "--workspace", &work, "--no-project"];
        let bottle = world.idle_with(if who == Who::Range { &mounted } else { &[] });
        kill_egress(&world, &bottle);
        let paused = |wanted: bool| wait_paused(&world, &bottle, wanted);
        paused(true);
        let again = world.run(&["sidecar", "restart", &bottle, "egress"]);
        assert_eq!(again.code, 0, "{who:?} {}", again.stderr);
        paused(false);
        assert_eq!(world.run(&["exec", &bottle, "--", "/bottler", "--version"]).code, 0, "{who:?}");
        let stopped = world.run(&["stop", &bottle]);
        assert_eq!(stopped.code, 0, "{who:?} {} {}", stopped.stdout, stopped.stderr);
        world.wait_clean();
    }
}
