-- Everything that a bottle's handle can be asked for; the agents are shells of busybox.
local IMAGE = "bottler-test:busybox"
local function shell(slug, script, options)
  options.image = IMAGE
  options.slug = slug
  options.command = { "/bin/sh", "-c", script }
  local one = bottle("shell", options)
  return one
end

return function(plan)
  local writer = shell("writer", "echo started; echo more >> notes.txt; echo new > made.txt", {
    workspace = { ["notes.txt"] = "first\n" },
  })
  local failing = shell("failing", "exit 3", {})
  local idle = shell("idle", "sleep 1000", {})
  log("exit codes", writer:wait().exit_code, failing:wait().exit_code)
  log("output", (writer:output():gsub("\n", "")))
  log("saved", writer:save_patch "out/change.patch", writer:save_patch "out/change.patch")
  local reader = shell("reader", "cat made.txt notes.txt", { workspace = writer:workspace() })
  log("handed on", (reader:output():gsub("\n", " ")))
  idle:close()
  log("closed", pcall(idle.wait, idle))
end
