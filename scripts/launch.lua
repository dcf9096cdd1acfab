-- The default launch sequence. Calls return at once, text order is the order of undoing (backwards), and the agent's
-- command starts when everything here is ready and the probe has passed.
local sidecars = require "std.sidecars"

return recipe(function(plan)
  local image = build_image(plan.image)
  local net = { outside = network_create { name = "outside" } }

  local egress = sidecars.egress(net, plan.egress) -- the only way out

  -- No network of its own: it reaches egress through a socket.
  local agent = run_agent { image = image, egress = egress, config = plan.agent }
  provision(agent, plan.provision) -- CA, files, prompt; agent.prompt_path from here on
  return agent
end)
