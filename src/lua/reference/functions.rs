//! The functions that scripts can call.

use super::types::{Function, Param, function};

/// Every global function, libraries with a dot.
pub fn functions() -> &'static [Function] {
    &[
        function!("recipe"("launch": "fun(plan: Plan, hooks: Hooks?): Agent?") -> "Recipe", "Turns a function into a recipe: callable from another recipe, with hooks that apply while it runs."),
        function!("build_image"("options": "ImageOptions") -> "Image", "Makes sure that the engine has an image with bottler's executable on top. Built once per bottle, cached by content. Its hooks are `image`."),
        function!("network_create"("options": "NetworkOptions") -> "Network", "Creates a bridge with a small address range of its own."),
        function!("volume_create"("options": "VolumeOptions") -> "Volume", "Creates a volume: a folder that outlives its containers, but not its bottle."),
        function!("sidecar_start"("options": "SidecarOptions|ServiceOptions") -> "Sidecar", "Starts a built-in sidecar (`role`), or an ordinary image (`image`) that has no network and whose ports the agent reaches under its name."),
        function!("run_agent"("options": "AgentOptions") -> "Agent", "Creates and starts the agent's container. Its command is held back until everything is ready and the probe has passed. Its hooks are `agent`."),
        function!("provision"("agent": "Agent", "options": "ProvisionOptions") -> "string?", "Gives the agent files, variables and a prompt; returns the prompt file's path. May be called more than once until the release."),
        function!("bottle"("agent": "string", "options?": "BottleOptions") -> "Bottle", "Launches another complete bottle, in a session of its own, as a part of this one. It starts at once."),
        function!("step"("name": "string", "work": "fun(): any") -> "any", "Runs a function and shows it as a step with its time; returns what the function returns."),
        function!("log"("...": "any") -> "", "Shows a line."),
        function!("progress"("text": "string") -> "", "Shows how far a long piece of work is, in place where there is a terminal."),
        function!("fail"("message": "any", "options?": "FailOptions") -> "", "Raises an error at this line."),
        function!("defer"("work": "fun()") -> "", "Runs a function at the teardown, in order: after things created later are removed, before things created earlier."),
        function!("deadline"("limit": "number|string", "work": "fun(...): any", "...": "any") -> "any", "Runs a function for a bounded time, in seconds or as `\"30m\"`; returns what it returns, or raises an error."),
        function!("prompt"("question": "string", "options?": "PromptOptions") -> "string|Secret", "Asks the person at the terminal for a line; with `secret = true` it is not shown, and is a secret."),
        function!("confirm"("question": "string") -> "boolean", "Asks the person at the terminal for yes or no."),
        function!("require"("name": "string") -> "any", "Loads `std.x`, or `lib.db` out of the project's `.bottler/lib/db.lua`; once."),
        function!("secret.random"("length": "integer") -> "Secret", "A random secret of letters, digits, `-` and `_`; 1 to 256 characters."),
        function!("secret.format"("format": "string", "...": "any") -> "Secret", "Puts secrets and other values where `%s` is; the result is a secret."),
        function!("host.run"("options": "HostOptions") -> "ExecResult", "Runs a command on the host, if the user's own manifest lists it, before the agent is released."),
    ]
}
