-- The smallest recipe: an image, a network, egress, the agent. Only the hosts that `--allow` names are
-- reachable; the agent has no prompt, no files and no other sidecar.
return recipe(function(plan)
  local image = build_image(plan.image)
  local outside = network_create { name = "outside" }
  local egress = sidecar_start { name = "egress", role = "egress", network = outside, allow = plan.egress.allow }
  local agent = run_agent { image = image, egress = egress, config = plan.agent }
  return agent
end)
