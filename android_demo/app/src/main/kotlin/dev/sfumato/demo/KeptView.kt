/** A veil over what of the camera's picture is cropped away: what stays bright is what the network sees. */
package dev.sfumato.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

class KeptView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val veil = Paint().apply { color = VEIL }
    private val frame = Paint().apply {
        color = Color.WHITE
        style = Paint.Style.STROKE
        strokeWidth = 2 * resources.displayMetrics.density
    }
    private var picture: Shape? = null
    private var input: Shape? = null

    /** The camera's upright [picture] fills the view as far as it fits; the model keeps a part of [input]'s shape around its middle. */
    fun show(picture: Shape?, input: Shape?) {
        if (this.picture == picture && this.input == input) return
        this.picture = picture
        this.input = input
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val whole = centred(picture ?: return, Place(0, 0, width, height))
        val kept = centred(input ?: return, whole)
        fun fill(left: Int, top: Int, right: Int, bottom: Int, paint: Paint) =
            canvas.drawRect(left.toFloat(), top.toFloat(), right.toFloat(), bottom.toFloat(), paint)
        fill(whole.left, whole.top, whole.right, kept.top, veil)
        fill(whole.left, kept.bottom, whole.right, whole.bottom, veil)
        fill(whole.left, kept.top, kept.left, kept.bottom, veil)
        fill(kept.right, kept.top, whole.right, kept.bottom, veil)
        fill(kept.left, kept.top, kept.right, kept.bottom, frame)
    }

    private companion object {
        /** Black, 60 % of it. */
        const val VEIL = 0x99000000.toInt()
    }
}
