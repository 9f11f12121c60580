/** Two pictures of one shape, whatever their sizes, on one place: the first left of a line, the second right of it. */
package dev.sfumato.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.graphics.Rect
import android.util.AttributeSet
import android.view.View

class CompareView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    // The photo is finer or coarser than the screen by a little: smoothed. Of the other picture every pixel is shown as it is.
    private val smooth = Paint().apply { isFilterBitmap = true }
    private val plain = Paint().apply { isFilterBitmap = false }

    // White on black is seen on any picture.
    private val line = Paint().apply {
        color = Color.WHITE
        strokeWidth = 2 * resources.displayMetrics.density
    }
    private val edge = Paint().apply {
        color = Color.BLACK
        strokeWidth = 4 * resources.displayMetrics.density
    }
    private var left: Bitmap? = null
    private var right: Bitmap? = null

    /** Share of the first picture, 0..1. */
    var share = 0.5f
        set(value) {
            field = value
            invalidate()
        }

    /** Only the [right] one is shown where there is no left one. */
    fun show(left: Bitmap?, right: Bitmap?) {
        this.left = left
        this.right = right
        invalidate()
    }

    /** As wide as it may be, but no higher than the screen is wide or high: a square fits both ways. */
    override fun onMeasure(widthMeasureSpec: Int, heightMeasureSpec: Int) {
        val side = minOf(MeasureSpec.getSize(widthMeasureSpec), screenSide(resources))
        setMeasuredDimension(MeasureSpec.getSize(widthMeasureSpec), side)
    }

    override fun onDraw(canvas: Canvas) {
        super.onDraw(canvas)
        val second = right ?: return
        val first = left
        val (x0, y0, x1, y1) = centred(Shape((first ?: second).height, (first ?: second).width), Place(0, 0, width, height))
        val place = Rect(x0, y0, x1, y1)
        canvas.drawBitmap(second, null, place, plain)
        if (first == null) return
        val split = x0 + ((x1 - x0) * share).toInt()
        canvas.save()
        canvas.clipRect(x0, y0, split, y1)
        canvas.drawBitmap(first, null, place, smooth)
        canvas.restore()
        for (paint in listOf(edge, line)) canvas.drawLine(split.toFloat(), y0.toFloat(), split.toFloat(), y1.toFloat(), paint)
    }
}
