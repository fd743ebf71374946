const cloud = require('wx-server-sdk')
cloud.init({ env: cloud.DYNAMIC_CURRENT_ENV, traceUser: true })
const db = cloud.database()
const _ = db.command

exports.main = async (event) => {
  const { OPENID } = cloud.getWXContext()
  switch (event.action) {
    case 'close': {
      const res = await cloud.cloudPay.closeOrder({
        subMchId: event.mchId,
        subAppid: 'wx8888888888888888',
        outTradeNo: event.orderNo
      })
      return { openid: OPENID, state: res.resultCode === 'SUCCESS' ? 'CLOSED' : 'OPEN', operators: typeof _.inc }
    }
    default:
      return { state: 'UNKNOWN' }
  }
}
