"""A small valid film: two seconds of MP4, 64 by 64 pixels, H.264 and AAC, four scenes and a tone.

Every film has the same pictures, and its own words in a box at its end.
"""

import struct
import zlib
from base64 import b85decode

SECONDS = 2.0
WIDTH = HEIGHT = 64

_MARK = b"simT"


def film(text: str) -> bytes:
    """An MP4 with `text` in a box that players skip."""
    body = _MARK + text.encode()
    return _FILM + struct.pack(">I4s", 8 + len(body), b"free") + body


def film_words(data: bytes) -> str | None:
    """The words of a film of this module; None for any other."""
    at = len(_FILM) + 8
    if len(data) < at + 4 or data[at : at + 4] != _MARK:
        return None
    return data[at + 4 :].decode("utf-8", "replace")


_FILM = zlib.decompress(
    b85decode(
        b"c-o~`30PCd_P+^>EGlaNmp(2Ch!#S^CRM^t8x<=>!3_x6fP6`~Aqi{20D?tasnk+XwjzpcK~O3#7)2^RK(ViuxKx6r5*"
        b"0NfA_9T?=7vzIUB3VO{`2MBnK^ULnK|eD<_tg(1jmZg1RN2<hafzJ^?+RI$xJd|;7*1h-5>b~k_<r*kDnaRg8tC79zoE"
        b"Yn-C7des3G@k5cc>{h)trTHqYxVj-Oi#*t#KdQYuCTLb$-|Gdv%?(6sa0qoc;u?X~w**uZ>tp;Y-Sfh&<@>v`@7{Gkiy"
        b"S_UD+6;xasVC0yES_*?C7Huw&z6h;bA(DyVDZ?P4E{YnCm|LL%#-<QqqC1`$C_SS%o4I=XSp#qNyvkz$GH0<F@p!j4I;"
        b"6KHA|)vOWNOr0(06AqJp0Kw-WC*D-;Fa6~JmBjs+Q@51<8cp#N5=9psRU<wP6%IC@hLnPlOhIq{DIcYJ>B<m8(-n6f!T"
        b"EYw8R<adK2u{z>2+Z#ZTo>~?-GMkT44D+q5!8FfUvu>s7^`QR;-x2J|)Y!*s_I$U;$Q#I|&k71S3;r?a7eUj8Ff0XO2?"
        b"O*#AS?kEfEEIB7m1mOMo%9g3)nMAfgr;{kk6+OH19P8&A$ynMqR+vc@U?sKs<5(fPDO4ARmYO-*4PMAYXe1`DuTTe4i`"
        b"`%Kl5_i;$#**^(Q;oHYyib{gaxi}-&q`hP+FBMs`ezk~V&P^RdAavL|DW$dV+d9p<;HJG%rva;+!9JN7j=|@m6+E!zv1"
        b"2{V7dJzvHT`<Do{|Mn}87v&LAdJbt>X1Rdmq5Q+u+p9dqZwGu@U%39n})^=#G&GM;AR5|3*CM|A%KE4a0>wBtI2GjhWu"
        b"vngJ<zE^3m}9XVHfm9UqMhrc2T2V*D^b3_v=6hOz<R8GHs31Ry_;1Ym3mU<~{*ngq%H5kUDAb_GOn0v6_!5aID=u9do`"
        b"EEX~11kl?RoW@hEXC$%2SU$J%+2WbJ+RO$S0H%;G5b$OL&6zWeWcyk%f*tcc7G15Z&PfP8Io8vaNCrQWE12uW3fZ7Q&-"
        b"3B~DR8U`T^$rX{7dlTmVrCeGl!gR!*`ZESEjmpy2H*e6A`juvZn_aQi*`&vMx0EBWHKmKOzvUvDi$o5QqrUc<fj)>`Ef"
        b"JIlGcvG3j`*Sg_K?B_$<=h&>1hkDfq8gmEsIU1GeL&jT`uK+HiBL@Qw?ok3?($S{CEh3pBl*bE-R<Wk5hNh?V(J%P?k6"
        b"R|0zRJWC+RI-~J%x6=Q`0=nPi2+7r5-bp<0cG%|30V{}kp#5B2j+89*({pcCQzXX=?QUcimN-!j29w&It|l>#X>fZ#}Q"
        b"FnVXss#7E=sZ%tStg1kONbr6UPIf$T&k!?ARcm?jW$IRZ>#+CZX!hQ!8-*kX#aD=dx|0u2#Z<sk@{9uFq8w>%M#!(_i@"
        b"kl+NNdJiUtPZwk7;3SCILLMCm0X~D5B&4U&m<V4$7lSzy1PRndP699i1ch`=CRRx2vqcmym_ZYyfiZ^#oM6!CEV@9f9x"
        b"*s{Y$pI0Ht@?0PGNK6;>8TG86sdO(BcpQSe<4HfC87D25e*DoF36YvBFNyWGAqhNn(mS30Cio1yslu#RFv_llHr_n4*w"
        b"LVG3hmJ}4Y)%qcJdYD5y8h`B-`5k0|BfZ0{|^i+!H2Vfu)vjr4)m?How0)PM+1bfjFLHe;=LRby+XXj@_M(9+&@*<ve&"
        b"WfH@-;nnS&I+x#9i+QA)omzuwB(DHz{An2qFn5EMfX%}T+qcGf7-Y&J<kdb2_x!il>;M|{v~?r@+D}?=?lM!*Tvf&G8n"
        b"w%wcY7bFCM!iOmIhBz0`LEpHa57s6#m{l|T57`uS?x)pj_Wndb7z6YKQna|?2^_m=AF2JJGhx!&n?;?NfM|L}{(YCEpX"
        b"c<B<!CB>qy(QF)4bXPwq=v-CQmXFKPW2khnr;ZyfMdzTB_9NV|Ny(Jaq(rjf>LFAm9Ygok?-oD&36v=NZz$c~!(C|(Yr"
        b"F5(i%OI$SO2GGSx8yRu_KQa>1ktQMK!&(W4GFCf<G<3lOA4LePk)ixn&h1617~vG1__LSy{>{mVEu!j$swZ4FUaX1tTc"
        b"?Guy8FhjA84LwwvGrH}lTba=d_ZX|`c_8`$gYheDw0ZHE#ueD6lf>*eM4^C39`M$u51B_n8D9>uCJk6?%CHrtbFLtPcT"
        b"uoSTg+Vp`0`%HNe}{cI6MZQ~6-^_*j?`~QKOO6r$z_>tfsY4<yS+zCy{Go(9vC;Oie6v(Z|aFc)BLEwn8=*VMOl$f7O)"
        b"w_>4RRn=v~<v8!nloDba~@{RQ%pazsk=$())RBQPJ=6*yLkL(k1Uy=Y0}D(6Or+cnieHD=W2D5?{|mSCvk7fH12!~U4@"
        b"FEQqL>lwo=a!j+foi#K(4?2?5XY3b<HbyUa^SbBdoHAZD;hcy37lh{(5x`|0|IbgQmfkg%9Rs1zbC)?cw(LjiP_*oB{|"
        b"`w+<0)?j75mZ^vW3?y!%9b$7g6V1J6=e(BFKe}4wY=!GPG;qMsnUB9O-0eu^-W*4}?PR$`03Z^pFIVuWX`@O(H!lQ|CK"
        b"tcRc*^;mfi##U}SB8v^fVj>-d`T=u|!sedA5d1YuVsd%#!KE_Z0y#nfaAPA_-V|3zze1S{<E5%6qpcF|zd)}Hz4$7}8a"
        b"IA80Yzhn`WEHaU4Tj%FE)Nzo2%0x*2lN?Y500OIiB)X|2tb<201m~8@sN{NK#ZQA_6oF~>faUSRqj(d_uQF%d+*zJJl("
        b"nB@%{A=yW4gvkS4*T`2EQ4iEQYJ%bX5Hh8%s^jml+_u_GH4L+$sXeXYI6I<-e`Y*o~SP2F7M^340D>bttw+l`K<#p?nd"
        b"guSo5E3dVUfGc(|>r=b2GlGSx&Y@^;(s#0Q-<m0xtLMjuTGkjH`%wYnaPY>kX_t(W*wf<}MXfolg%4`2jxew^$ZgFHup"
        b"zZy0w#<>B$(((rWBQY_4Dv$<!C=hg|a;aI`Gx!*WG`jyLYacS9p8tvg#;mK@`(q=cQT;QXy0v;)L%rc!B*bjw^%nu1U}"
        b"#uLH(}sGj$}X)_`)_K;Q&Lyth3xf$JPrxd-f*!rBSR3SrAgYuEl&eCiP*@$%H3^G_r_5D^-x7Xa=E<E5#8)<nYxq2hnL"
        b"_fE+!U3w+I0z6wgicO2)t(hS8<%%SO{8~bjb-fj9xfAguPnORD_{4lpBEl#Pb#=tQ4-wRhJQe+HO|MYfVw`@1EhHh0Wc"
        b"XDf6g6JrHsp^(dgng!-uS$8WIcag1;~^{vbEl#MHyD(!)q>1LfqlvMdY=4Rc%DwD5UXmI4o#`j^1}&d{?yxGd{KG$yuc"
        b"@3!OfzV5-rU;e16!eXNRvmaciJp5Mua2a#>x-yA|9xO-Y&$g$@^<S$JUk|pQNvpl)u_-*sBh~lJ>zq$gZTbSXHbrfAs0"
        b"e#tzB~7tlLe75mt|^e25rj%N1oHs)s8;wM<*t@(H^q$pQJKcf?M~+@!pde9)q&_$foY-vqwF@KRd`>XWJ2cnVM@(G=r}"
        b"a9Lx;z{NkxP&FZ_62g<~YaddJ@c6F2a*px_CE@{6W^_%s&TM1R_D_*o{(UQgIts)9Kg4XH<A1)5bsXW~rvfP|#46VnW3"
        b"1|P3W%?KNtbgl>(e_1Er#lCB<?PL{G`BB2-zO-rd%9)*jTi4#dTl*=3yIvh1OxMpK~Gc_?Tbp9Mjj}lFKlngJg2N*K&a"
        b"$8pJFoZ*;a!M7xJP4o&>GI>FlxbFw6x&u8c9$&wT@G(wwfY6R7Hf1XZp);~o9!R2?Fd`FOY*DWu!Sk(vpmJc%gJe6ynN"
        b"eVtndezui@zRH-&3L*gqHLL5Q@s*rY*64l^_JOpAppNwK-%iP#eAxkAx^(q&_EFs;s|9O<6`vih`7Ws7xOu++lF%&ymu"
        b"+#O$2V%5;;=Ww6jw%i+USdpj)lxUOc-)Jv)vDR3d*g+=vOqfRE~~L&^EM0Pi87*i-rfK9(cQ8<NV<J=0T=(li)-LTZhd"
        b"jD%RK#^z-r?@~FA3)fTv1+;->%aH}^#G6jMn{r+g&sWNoi1h>6?)vqa)s;0pnnX^z<$Dwn%hZ;QeYfT)r37$InCqS8=X"
        b"H(RyuCuRQOui<#%{V5zcW-~Ruch+pxHA2cb}rWL>*w0pA8Y#9^no*_b`$y1QHSb?FdSibUVa_H!O}3#F9e7E8)e~NLSC"
        b"lQvmSFTh5}L3ubU6=+i6zNhaK>G4<8-BC`YAt-wY&vpd6wkDo6S+?y<Q2{q;k4_@y9iOB#Q?caqvzXr3P%TD-;fGUI{Z"
        b"tZ`N_Y@yb_u?^&{1S>zaH=0MfW&avi_V?D6m{%3`%B3%QH)v&!KI(1mBoyffx!Z*h3u9_Y$0I@Mn7>$)HWB(V4pqJ!Jh"
        b"M<<e_===^-+yvJknCPXx)<n*P`8HeN!2?h?PnBQ2pbP#KJv}kq(yn05`1}065@+Bg>^z=ny)gk`pdAk19rFih4==-a%r"
        b"HZGnxcZKrvV9Vx%cHpn>iTsBqbXV?-xPAv{0`iGi8o3gN{sH+zgm~M1Jv3uZErgT%?if8@lo(ms(p5>Och}IfLj&yJ3R"
        b"C7X?RWi6{h6f@YgNPP}CVF-=4|2qYzkiU2yN1U-O#>hK>`L=N>}^j3t+7d(mn}5Z4Z{geZq5q99n;+S6X>`Upe(6w(UW"
        b"rD%=BU9P`?f1o+s~4<2}!9tcV?~<PSab@0s7qFKXpj8rJIMR0mYX95>8sRpIQ`8~mEQe!**W3tGPT<J0F)e`&h$WUtZd"
        b"v&+VI>_6#kOMZPfP+?__G+jBB`Y-F4RX&M(eA?{BvLp@qKCxDrb!%1TQwP!|ZEJN8lET+F7bf7ezi8M+PyXnH{mo=_0v"
        b"$ycr<MFHsYicNWhQ=eUMfX<rHXIPI<2m3p5NxI%~)b$RaND<C%p07hF1X)K1&)orPIK6w>DE*_n~v%7!6HnsU-WtJ7{k"
        b"FGo}4l%feY@pBDTVh;Z>1"
    )
)
