local sidecars = require "std.sidecar"
return recipe(function(plan) end)
