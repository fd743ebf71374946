'use strict'
const cloud = require("wx-server-sdk");
cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV });

class Pay {
  constructor (config) { this.config = config }

  nonce () { return `${Date.now()}` }

  async close (tradeNo) {
    const res = await cloud.cloudPay.closeOrder({ subMchId: this.config.mch, out_trade_no: tradeNo, nonce_str: this.nonce() })
    return res.returnCode == 'SUCCESS' && res.resultCode == 'SUCCESS'
  }
}

exports.main = async event => ({ closed: await new Pay({ mch: event.mchId }).close(event.orderNo) })
