return recipe(function(plan)
  local net = network_create { name = "n" }
  local agent = run_agent { image = net, egress = net, config = plan.agent }
end)
