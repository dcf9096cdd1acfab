//! The functions that scripts can call.

use super::types::{Function, Param, function};

/// All global functions; those of libraries have a dotted name.
pub fn functions() -> &'static [Function] {
    &[
        function!("recipe"("launch": "fun(plan: Plan, hooks: Hooks?): Agent?") -> "Recipe", "Turns a function into a recipe: callable from another recipe, with hooks that apply while it runs."),
        function!("build_image"("options": "ImageOptions") -> "Image", "Ensures that the engine has an image with bottler's executable on top. It is built once per bottle and cached by content. Its hooks are named `image`."),
        function!("network_create"("options": "NetworkOptions") -> "Network", "Creates a bridge with a small address range of its own."),
        function!("volume_create"("options": "VolumeOptions") -> "Volume", "Creates a volume: a folder that outlives its containers, but not its bottle."),
        function!("sidecar_start"("options": "SidecarOptions|ServiceOptions") -> "Sidecar", "Starts a built-in sidecar (`role`), or an ordinary image (`image`) that has no network and whose ports the agent reaches under its name."),
        function!("run_agent"("options": "AgentOptions") -> "Agent", "Creates and starts the agent's container. Its command is held back until everything is ready and the probe has passed. Its hooks are named `agent`."),
        function!("provision"("agent": "Agent", "options": "ProvisionOptions") -> "string?", "Gives the agent files, variables and a prompt; returns the prompt file's path. May be called more than once until the release."),
        function!("bottle"("agent": "string", "options?": "BottleOptions") -> "Bottle", "Launches a nested bottle, complete and with its own session; this bottle's teardown removes it. It starts at once."),
        function!("step"("name": "string", "work": "fun(): any") -> "any", "Runs a function and shows it as a step with its time; returns what the function returns."),
        function!("log"("...": "any") -> "", "Shows a line."),
        function!("progress"("text": "string") -> "", "Shows the progress of a long operation; on a terminal, in place."),
        function!("fail"("message": "any", "options?": "FailOptions") -> "", "Raises an error at this line."),
        function!("defer"("work": "fun()") -> "", "Runs a function at the teardown, in order: after objects created later are removed, and before objects created earlier."),
        function!("deadline"("limit": "number|string", "work": "fun(...): any", "...": "any") -> "any", "Runs a function with a time limit, in seconds or as `\"30m\"`. Returns its result, or raises an error at the limit."),
        function!("prompt"("question": "string", "options?": "PromptOptions") -> "string|Secret", "Asks the user at the terminal for a line of text; with `secret = true` the input is hidden, and the result is a secret."),
        function!("confirm"("question": "string") -> "boolean", "Asks the user at the terminal for yes or no."),
        function!("require"("name": "string") -> "any", "Loads a module once: `std.x` from bottler's library, or `lib.db` from the project's `.bottler/lib/db.lua`."),
        function!("secret.random"("length": "integer") -> "Secret", "Returns a random secret of letters, digits, `-` and `_`; 1 to 256 characters."),
        function!("secret.format"("format": "string", "...": "any") -> "Secret", "Replaces each `%s` with a secret or another value; the result is a secret."),
        function!("host.run"("options": "HostOptions") -> "ExecResult", "Runs a command on the host, if the user's own manifest lists it, before the agent is released."),
    ]
}
