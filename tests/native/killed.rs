//! Whoever is killed, in whichever order, at whichever moment of a launch: nothing of the bottle goes on, and nothing is left.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::ended::strike;
use crate::world::{Done, Who, World, wait_for};

const HOLDER: &str = "holder";
const REAPER: &str = "reaper";
const SHIM: &str = "container-shim";

/// Every order that ends a bottle; the reaper's end alone does not.
const ORDERS: [&[&str]; 14] = [
    &[HOLDER],
    &[SHIM],
    &[HOLDER, REAPER],
    &[REAPER, HOLDER],
    &[HOLDER, SHIM],
    &[SHIM, HOLDER],
    &[SHIM, REAPER],
    &[REAPER, SHIM],
    &[HOLDER, REAPER, SHIM],
    &[HOLDER, SHIM, REAPER],
    &[REAPER, HOLDER, SHIM],
    &[REAPER, SHIM, HOLDER],
    &[SHIM, HOLDER, REAPER],
    &[SHIM, REAPER, HOLDER],
];
/// Users at a time, and launches of each.
const WORLDS: usize = 6;
const LAUNCHES: usize = 10;

/// Numbers that a seed decides (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % end
    }
}

/// Counts what a launch does in the engine's store: every file and folder that is made, written, moved or removed.
struct Moments(Inotify);

impl Moments {
    fn of(world: &World) -> Self {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        for folder in ["new", "containers", "volumes", "networks", "tags", "images"] {
            watch.add_watch(&world.store().join(folder), Self::flags()).unwrap();
        }
        Self(watch)
    }

    fn flags() -> AddWatchFlags {
        AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE
    }

    /// Waits for so many of them, or for the launch to end; how many there were.
    fn wait(&self, world: &World, count: usize, launch: &mut Child) -> usize {
        let mut seen = 0;
        while seen < count && launch.try_wait().unwrap().is_none() {
            let Ok(events) = self.0.read_events() else {
                std::thread::yield_now();
                continue;
            };
            seen += events.len();
            for name in events.into_iter().filter_map(|event| event.name) {
                // A new container's own files count, too; other names are in none of these folders.
                let _ = self.0.add_watch(&world.store().join("containers").join(&name), Self::flags());
                let _ = self.0.add_watch(&world.store().join("new").join(&name), Self::flags());
            }
        }
        seen
    }
}

/// A launch during which somebody is killed; how long the containers' processes were seen to go on.
fn launch(world: &World, order: &[&str], moment: usize, later: usize, by_run: bool) -> Duration {
    let moments = Moments::of(world);
    let mut command = world.idling();
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    moments.wait(world, moment, &mut child);
    (0..later).for_each(|_| std::thread::yield_now());
    let mut reaped = !world.processes(REAPER).is_empty();
    for role in order {
        strike(world, role);
    }
    let struck = Instant::now();
    let done = Done::from(child.wait_with_output().unwrap());
    let mut lasted = struck;
    if done.code == 0 {
        // Whoever was to be killed was not there yet, or had no container.
        reaped = !world.processes(REAPER).is_empty();
        for role in order {
            strike(world, role);
        }
        lasted = Instant::now();
    }
    let began = lasted;
    wait_for("the bottle's containers to end", || {
        let contained = world.contained();
        if contained.is_empty() {
            return Ok(());
        }
        lasted = Instant::now();
        Err(format!("{contained:?}"))
    });
    wait_for("the bottle's processes to end", || {
        let reapers = world.processes(REAPER);
        let alive: Vec<i32> = world.alive().into_iter().filter(|pid| !reapers.contains(pid)).collect();
        if alive.is_empty() {
            return Ok(());
        }
        let said = alive.iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default());
        Err(format!("{:?}", said.collect::<Vec<_>>()))
    });
    world.wait_struck();
    let alone = reaped && (!order.contains(&REAPER) || !order.contains(&HOLDER));
    let said = if alone {
        // A reaper or a holder lived: nobody else has to do anything.
        world.wait_clean();
        String::new()
    } else if by_run {
        let next = world.run(&["run", "probe", "--format", "json"]);
        assert_eq!(next.code, 0, "{}{}", next.stdout, next.stderr);
        next.stderr
    } else {
        let done = world.run(&["gc"]);
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
        done.stdout + &done.stderr
    };
    assert_eq!(world.left(), Vec::<String>::new(), "{order:?} {said}");
    lasted - began
}

#[test]
fn promise_12_killed_at_sixty_moments_in_every_order_nothing_goes_on_and_nothing_is_left() {
    let seed = std::env::var("BOTTLER_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) << 20 | 1
    });
    println!("BOTTLER_TEST_SEED={seed}");
    std::thread::scope(|scope| {
        for number in 0..WORLDS {
            scope.spawn(move || {
                let world = World::new(if number % 2 == 0 { Who::Root } else { Who::User });
                // Makes the store; the first launch makes the image, too.
                assert_eq!(world.run(&["gc"]).code, 0);
                let mut random = Random(seed.wrapping_mul(2 * number as u64 + 1) | 1);
                let mut longest = Duration::ZERO;
                let mut all = 0;
                for launched in 0..LAUNCHES {
                    if launched == 1 {
                        all = whole(&world);
                    }
                    let order = ORDERS[(number * LAUNCHES + launched) % ORDERS.len()];
                    let moment = 1 + random.below(if launched == 0 { 20 } else { all + all / 8 });
                    let later = random.below(200);
                    println!("{:?} {launched}: {order:?} after {moment} of {all} and {later}", world.who);
                    longest = longest.max(launch(&world, order, moment, later, launched % 5 == 4));
                }
                println!("{:?}: at most {longest:?} until nothing ran in a container", world.who);
            });
        }
    });
}

/// How many moments a launch has that is not disturbed.
fn whole(world: &World) -> usize {
    let moments = Moments::of(world);
    let mut command = world.idling();
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let seen = moments.wait(world, usize::MAX, &mut child);
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!(done.code, 0, "{}", done.stderr);
    let stopped = world.run(&["stop", done.stdout.trim()]);
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    world.wait_clean();
    seen
}
