-- wrk's side of one piece of work: `wrk … -s work.lua URL WORK PREFIX SALES`. WORK: get, or buy, by a new shopper each
-- time; with SALES above 0 in the sales sale-0, sale-1, … in turn. Prints one line of JSON when it is done.
local threads = 0

function setup(thread)
  thread:set('number', threads)
  threads = threads + 1
end

function init(arguments)
  work, prefix, sales, counter = arguments[1], arguments[2], tonumber(arguments[3]), 0
  heads = {}
  for sale = 0, math.max(0, sales - 1) do
    local path = sales > 0 and '/api/sales/sale-' .. sale .. '/purchase' or wrk.path
    heads[sale] = 'POST ' .. path .. ' HTTP/1.1\r\nHost: ' .. wrk.headers['Host'] ..
      '\r\nContent-Type: application/json\r\nContent-Length: '
  end
end

function request()
  if work == 'get' then return wrk.format('GET') end
  counter = counter + 1
  local body = '{"userId":"' .. prefix .. number .. '-' .. counter .. '@example.com"}'
  return heads[counter % (#heads + 1)] .. #body .. '\r\n\r\n' .. body
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"p50_ms":%f,"p95_ms":%f,"p99_ms":%f,"max_ms":%f,"refused":%d,"broken":%d,"timeouts":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write,
    errors.timeout))
end
