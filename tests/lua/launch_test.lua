-- The default launch, and what hooks do to it.
local launch = require "std.launch"
local test = require "std.test"

test.case("it makes a network, the way out and the agent, in this order", function()
  launch(test.plan())
  test.equal(test.made(), { "network outside", "volume egress-socket", "sidecar egress", "agent" })
end)

test.case("the prompt's path is known as soon as it is provided", function()
  local agent = launch(test.plan())
  test.equal(agent.prompt_path, "/home/agent/.bottler/prompt.md")
  test.equal(agent:wait(), { exit_code = 0 })
end)

test.case("hooks see options before and handles after", function()
  local seen = {}
  launch(test.plan(), {
    before = { egress = function(options) seen[#seen + 1] = options.role end },
    after = { egress = function(egress) seen[#seen + 1] = egress.name end },
  })
  test.equal(seen, { "egress", "egress" })
end)
