// activations.h -- the activations, a struct each: what a kernel that ends in one includes.
//
// A build is for one of them, the constant ACT (`// constants: ACT=relu`), and calls act::ACT:
//     f(x, p)      the value; p is the parameter (ignored where there is none)
//     df(dy, s, p) dy times the derivative; s is the output y or the input x, as the Python table says
// Names, order and formulas are those of minitorch_flux/ops/activation_table.py (a test compares them). Formulas have
// the limits at plus and minus infinity, keep NaN, and choose by ?: so that an infinite dy stays out of the dead half.
#define FAR        ACC(1000)             // every smooth activation equals its limit from here on
#define SELU_SCALE ACC(1.0507009873554805)
#define SELU_LEFT  ACC(1.0507009873554805 * 1.6732632423543772)
#define GELU_TWICE ACC(2 * 0.7978845608028654)     // 2 sqrt(2 / pi)
#define GELU_CUBE  ACC(0.044715)
#define F          static DEVICE_MEMBER ACC f(ACC x, [[maybe_unused]] ACC p)
#define DF(s)      static DEVICE_MEMBER ACC df(ACC dy, [[maybe_unused]] ACC s, [[maybe_unused]] ACC p)

DEVICE ACC sigmoid_of(ACC x) { return 1 / (1 + f_exp(-x)); }
DEVICE ACC softplus_of(ACC x) { return f_max(x, ACC(0)) + f_log1p(f_exp(-f_fabs(x))); }
DEVICE ACC clip(ACC x, ACC low, ACC high) { return x < low ? low : x > high ? high : x; }     // a NaN stays
DEVICE ACC gelu_sigmoid(ACC x) { return sigmoid_of(GELU_TWICE * (x + GELU_CUBE * x * x * x)); }
DEVICE ACC normal_cdf(ACC x) { return ACC(0.5) * (1 + f_erf(x * ACC(0.7071067811865476))); }
DEVICE ACC tanh_softplus(ACC x) {         // n / (n + 2), n = e^x (e^x + 2); 1 from 30 on
    ACC e = f_exp(f_min(x, ACC(30))), n = e * (e + 2);
    return n / (n + 2);
}

namespace act {
struct identity {
    F { return x; }
    DF(y) { return dy; }
};
struct sigmoid {
    F { return sigmoid_of(x); }
    DF(y) { return dy * (y * (1 - y)); }
};
struct hardsigmoid {
    F { return clip((x + 3) / 6, 0, 1); }
    DF(y) { return dy * (y > 0 && y < 1 ? ACC(1) / 6 : y * 0); }
};
struct logsigmoid {
    F { return -softplus_of(-x); }
    DF(y) { return dy * -f_expm1(y); }
};
struct hardtanh {
    F { return clip(x, -1, 1); }
    DF(y) { return f_fabs(y) < 1 ? dy : 0; }
};
struct tanh {
    F { return f_tanh(x); }
    DF(y) { return dy * (1 - y * y); }
};
struct relu {
    F { return x < 0 ? 0 : x; }
    DF(y) { return y > 0 ? dy : 0; }
};
struct leakyrelu {
    F { return x > 0 ? x : p * x; }
    DF(y) { return y > 0 ? dy : dy * p; }
};
struct relu6 {
    F { return clip(x, 0, 6); }
    DF(y) { return y > 0 && y < 6 ? dy : 0; }
};
struct elu {
    F { ACC left = p * f_expm1(f_min(x, ACC(0))); return x >= 0 ? x : left; }
    DF(y) { return y >= 0 ? dy : dy * (y + p); }
};
struct gelu {
    F { return f_max(x, ACC(-30)) * gelu_sigmoid(clip(x, -30, 30)); }
    DF(x) {
        ACC v = clip(x, -30, 30), g = gelu_sigmoid(v);
        return dy * (g + v * g * (1 - g) * GELU_TWICE * (1 + 3 * GELU_CUBE * v * v));
    }
};
struct gelu_erf {
    F { return f_max(x, ACC(-40)) * normal_cdf(x); }
    DF(x) {
        ACC v = clip(x, -40, 40);
        return dy * (normal_cdf(v) + v * f_exp(ACC(-0.5) * v * v) * ACC(0.3989422804014327));
    }
};
struct swish {
    F { return f_max(x, -FAR) * sigmoid_of(x); }
    DF(x) { ACC v = clip(x, -FAR, FAR), g = sigmoid_of(v); return dy * (g * (1 + v * (1 - g))); }
};
struct hardswish {
    F { return f_max(x, ACC(-3)) * clip((x + 3) / 6, 0, 1); }
    DF(x) { return dy * (f_fabs(x) < 3 ? x / 3 + ACC(0.5) : ACC(x > 0)); }
};
struct lisht {
    F { return x * f_tanh(x); }
    DF(x) { ACC v = clip(x, -FAR, FAR), t = f_tanh(v); return dy * (t + v * (1 - t * t)); }
};
struct selu {
    F { ACC left = SELU_LEFT * f_expm1(f_min(x, ACC(0))); return x > 0 ? SELU_SCALE * x : left; }
    DF(y) { return dy * (y > 0 ? SELU_SCALE : y + SELU_LEFT); }
};
struct celu {
    F { ACC left = p * f_expm1(f_min(x, ACC(0)) / p); return x >= 0 ? x : left; }
    DF(y) { return y > 0 ? dy : dy * (y / p + 1); }
};
struct softplus {
    F { return softplus_of(x); }
    DF(y) { return dy * -f_expm1(-y); }
};
struct softsign {
    F { ACC v = clip(x, ACC(-1e30), ACC(1e30)); return v / (1 + f_fabs(v)); }
    DF(x) { ACC r = 1 / (1 + f_fabs(x)); return dy * (r * r); }
};
struct logcosh {
    F { ACC v = f_fabs(x); return v + (f_log1p(f_exp(-2 * v)) - ACC(0.6931471805599453)); }
    DF(x) { return dy * f_tanh(x); }
};
struct mish {
    F { return f_max(x, -FAR) * tanh_softplus(x); }
    DF(x) {
        ACC v = clip(x, -FAR, FAR), t = tanh_softplus(v);
        return dy * (t + v * sigmoid_of(v) * (1 - t * t));
    }
};
struct tanhshrink {
    F { return x - f_tanh(x); }
    DF(x) { ACC t = f_tanh(x); return dy * (t * t); }
};
struct softshrink {
    F { return x - clip(x, -p, p); }
    DF(y) { return y != 0 ? dy : 0; }
};
struct hardshrink {
    F { return f_fabs(x) <= p ? 0 : x; }
    DF(y) { return y != 0 ? dy : 0; }
};
struct trelu {
    F { return x <= p ? 0 : x; }
    DF(y) { return y != 0 ? dy : 0; }
};
}
#undef F
#undef DF
