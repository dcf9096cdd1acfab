return recipe(function(plan)
  local agent = run_agent { config = plan.agent }
end)
