return recipe(function(plan)
  local egress = sidecar_start { name = "egress", role = "egress" }
end)
