-- An agent that tells the one host that it may reach a secret: as it is, in base 64, and split.
local launch = require "std.launch"

return recipe(function(plan)
  local token = secret.format("%s-%s", secret.random(12), secret.random(12))
  local counterpart
  plan.image.source = "bottler-test:busybox"
  plan.agent.command = {
    "/bin/sh",
    "-c",
    [[
      tell() {
        what=$1
        shift
        wget -q -O - "$@" > /dev/null 2>&1 && echo "$what passed" || echo "$what refused"
      }
      tell plain --post-data=hello http://counterpart:8080/
      tell body --post-data="x$TOKEN" http://counterpart:8080/
      tell base64 --post-data="$(echo "x$TOKEN" | base64 -w 0)" http://counterpart:8080/
      tell header --header="X-Note: $TOKEN" http://counterpart:8080/
      tell query "http://counterpart:8080/?$TOKEN"
    ]],
  }
  local agent = launch(plan, {
    after = {
      outside = function(net)
        local options = { name = "counterpart", role = "counterpart", network = net }
        counterpart = sidecar_start(options)
      end,
    },
    before = {
      egress = function(options) options.sidecars = { counterpart = counterpart } end,
      provision = function(options) options.env = { TOKEN = token } end,
    },
  })
  return agent
end)
