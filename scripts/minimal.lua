-- The least that a recipe is: an image, a network, the way out, the agent. Nothing is reachable but what
-- `--allow` names; the agent has no prompt, no files, and no second sidecar.
return recipe(function(plan)
  local image = build_image(plan.image)
  local outside = network_create { name = "outside" }
  local egress = sidecar_start { name = "egress", role = "egress", network = outside, allow = plan.egress.allow }
  local agent = run_agent { image = image, egress = egress, config = plan.agent }
  return agent
end)
