return recipe(function(plan)
  local agent = run_agent { image = "debian", config = plan.agent }
end)
