-- Three sidecars that go out through egress, each by a volume that it shares with that alone.
local launch = require "std.launch"
local NAMES = { "one", "two", "three" }

return recipe(function(plan)
  local inside
  local agent = launch(plan, {
    after = { inside = function(network) inside = network end },
    before = {
      agent = function(options)
        for _, name in ipairs(NAMES) do
          ---@diagnostic disable-next-line: param-type-mismatch
          sidecar_start { name = name, role = "stub", network = inside, egress = options.egress }
        end
      end,
    },
  })
  return agent
end)
