local sidecars = require "std.sidecars"
local test = require "std.test"

test.case("postgres has a volume and an address that does not print", function()
  local db = sidecars.postgres { name = "db" }
  test.equal(tostring(db.url), "(secret)")
  test.equal(db.sidecar.name, "db")
  test.equal(test.made(), { "volume db-data", "volume db-socket", "sidecar db" })
end)

test.case("redis takes other options", function()
  local cache = sidecars.redis { name = "cache", image = "redis:6" }
  test.equal(cache.url, "redis://cache:6379")
  test.equal(test.made(), { "volume cache-socket", "sidecar cache" })
end)

test.case("egress is what the plan allows", function()
  local net = { outside = network_create { name = "outside" } }
  test.equal(sidecars.egress(net, { allow = { "example.com" } }).name, "egress")
  test.fails(function() sidecars.egress(net, { allow = { "a b" } }) end, "allow")
end)
