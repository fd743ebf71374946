"use strict";
var __importDefault = (this && this.__importDefault) || function (mod) {
    return (mod && mod.__esModule) ? mod : { "default": mod };
};
Object.defineProperty(exports, "__esModule", { value: true });
exports.main = void 0;
const wx_server_sdk_1 = __importDefault(require("wx-server-sdk"));
wx_server_sdk_1.default.init({ env: wx_server_sdk_1.default.DYNAMIC_CURRENT_ENV });
const main = async (event) => {
    var _a;
    const res = await wx_server_sdk_1.default.cloudPay.closeOrder({ subMchId: event.mchId, outTradeNo: event.orderNo });
    return { ok: ((_a = res === null || res === void 0 ? void 0 : res.resultCode) !== null && _a !== void 0 ? _a : 'FAIL') === 'SUCCESS' };
};
exports.main = main;
