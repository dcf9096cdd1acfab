-- A real image, files of several owners, a secret in the command's environment alone; then the agent idles.
local launch = require "std.launch"

return recipe(function(plan)
  plan.image.source = "bottler-test:busybox"
  plan.agent.command =
    { "/bin/sh", "-c", 'test "$TOKEN" = s3cr3t-s3cr3t && test -s "$SSL_CERT_FILE" && cat "$PROMPT" && exec sleep 1000' }
  plan.agent.env = { COLOUR = "green" }
  local agent = launch(plan, {
    before = {
      provision = function(options)
        options.prompt = "the prompt"
        options.env = { TOKEN = secret.format("%s-%s", "s3cr3t", "s3cr3t"), PROMPT = "/home/agent/.bottler/prompt.md" }
        options.files = {
          { path = "/etc/managed.conf", content = "root's\n", mode = "0640", owner = "0:1000" },
          { path = "/home/agent/.config/mine", content = "mine\n", mode = "0600" },
        }
      end,
    },
  })
  log("prompt at", agent.prompt_path)
  for _, command in ipairs {
    { "/bin/env" },
    { "/bin/stat", "-c", "%u:%g %a", "/etc/managed.conf" },
    { "/bin/id" },
    { "/bin/cat", "/etc/hosts" },
  } do
    local result = agent:exec { command = command }
    log(command[1], result.exit_code, (result.stdout:gsub("\n", " | ")))
  end
  return agent
end)
