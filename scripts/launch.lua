-- The default launch. Calls return at once. Objects are removed in the reverse order of these lines. The agent's
-- command starts when everything is ready and the probe has passed.
local sidecars = require "std.sidecars"

return recipe(function(plan)
  local image = build_image(plan.image)
  local net = {}
  if plan.isolation == "bridge" then net.inside = network_create { name = "inside", internal = true } end
  net.outside = network_create { name = "outside" }

  local egress = sidecars.egress(net, plan.egress) -- the only way out
  if plan.cred_proxy then sidecars.cred_proxy(net, egress) end -- routes with credentials
  if plan.git then sidecars.git_gate(net, egress) end -- every push is inspected
  if plan.supervise then sidecars.supervise() end -- the agent asks, the operator answers

  -- A sealed agent has no network: it reaches egress through a socket.
  local agent = run_agent { image = image, network = net.inside, egress = egress, config = plan.agent }
  provision(agent, plan.provision) -- CA, files, prompt; agent.prompt_path from here on
  return agent
end)
