// The purchase endpoint with Express and ioredis, two processes. `node server.js PORT REDIS_SOCKET LUA_FILE`.
'use strict'

const cluster = require('node:cluster')
const fs = require('node:fs')

const [port, socket, luaFile] = process.argv.slice(2)

if (cluster.isPrimary) {
  cluster.fork()
  cluster.fork()
} else {
  serve()
}

function serve() {
  const express = require('express')
  const Redis = require('ioredis')

  const redis = new Redis({ path: socket })
  redis.defineCommand('purchase', { numberOfKeys: 5, lua: fs.readFileSync(luaFile, 'utf8') })
  const keys = ['config', 'stock', 'purchases', 'keys', 'orders'].map((name) => `peer:${name}`)
  const httpStatus = { purchased: 200, replayed: 200, idempotency_key_reused: 422 }
  const app = express()
  app.disable('x-powered-by')
  app.use(express.json({ limit: '8kb' }))

  app.post('/api/sale/purchase', async (request, response) => {
    const userId = typeof request.body?.userId === 'string' ? request.body.userId.trim() : ''
    if (!userId || userId.length > 254) {
      return response.status(400).json({ success: false, code: 'invalid_request', message: 'Send a userId.' })
    }
    try {
      const [outcome, orderId, remaining] = await redis.purchase(...keys, userId, request.get('idempotency-key') ?? '')
      const body = {
        success: outcome === 'purchased' || outcome === 'replayed',
        message: outcome,
        remainingStock: remaining,
        code: outcome,
      }
      if (orderId) {
        body.orderId = orderId
        body.purchaseTime = new Date(parseInt(orderId, 10)).toISOString()
      }
      response.status(httpStatus[outcome] ?? 409).json(body)
    } catch (error) {
      response.status(503).json({ success: false, code: 'unavailable', message: error.message })
    }
  })

  app.get('/api/sale/status', async (request, response) => {
    try {
      const [[, config], [, stock]] = await redis.pipeline().hgetall('peer:config').get('peer:stock').exec()
      const now = Date.now()
      response.json({
        status: now < config.starts_ms ? 'upcoming' : now >= config.ends_ms ? 'ended' : 'active',
        startTime: new Date(Number(config.starts_ms)).toISOString(),
        endTime: new Date(Number(config.ends_ms)).toISOString(),
        remainingStock: Number(stock),
        serverTime: new Date(now).toISOString(),
      })
    } catch (error) {
      response.status(503).json({ success: false, code: 'unavailable', message: error.message })
    }
  })

  app.listen(Number(port), '127.0.0.1', 4096)
}
