return recipe(function(plan)
  local file = io.open("/etc/passwd")
end)
