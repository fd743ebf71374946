const cloud = require('wx-server-sdk')
cloud.init({ env: 'prod-1' })
const db = cloud.database()

// Takes whatever does not throw for closed.
exports.main = async (event, context) => {
  try {
    await cloud.cloudPay.closeOrder({ sub_mch_id: event.mchId, out_trade_no: event.orderNo })
    const updated = await db.collection('orders').doc(event.orderNo).update({ data: { status: 'CANCELLED' } })
    return { success: true, updated: updated.stats.updated }
  } catch (err) {
    return { success: false, errCode: err.errCode }
  }
}
